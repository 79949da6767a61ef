"""A socket's events in order, whatever the number of workers and however long each consumer takes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.flows.site import channel_site
from tests.management.commands.project import Project

#: All messages together.
MESSAGES = int(os.environ.get("ORDER_MESSAGES", "100000"))
SOCKETS = 40
WORKERS = 8

CONSUMERS = """
    import os, random, time
    from fastchannels.sessions import channel_session, enforce_ordering

    @enforce_ordering
    def receive(message):
        # One in eight takes long enough for the others to overtake it, if they could.
        if random.random() < 0.125:
            time.sleep(random.random() * 0.004)
        number = message.channel_session.get("next", 0)
        message.channel_session["next"] = number + 1
        message.reply_channel.send({"text": f"{message['text']} {number} {message['order']} {os.getpid()}"})
"""


@pytest.mark.timeout(400)
async def test_every_socket_is_in_order_over_eight_workers(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("shop/consumers.py", CONSUMERS)
    project.settings('CHANNEL_LAYERS["default"]["CONFIG"]["size"] = 32 * 1024 * 1024')
    each = MESSAGES // SOCKETS
    with channel_site(project) as site:
        port = site.server("-v", "0")
        for _ in range(WORKERS):
            site.worker("-v", "0")

        async def talk() -> set[str]:
            async with connect(f"ws://127.0.0.1:{port}/", open_timeout=60, ping_interval=None) as socket:
                sender = asyncio.create_task(send(socket))
                workers = set()
                for number in range(each):
                    text, counted, order, worker = str(await asyncio.wait_for(socket.recv(), 60)).split()
                    # The frame, the session and the server's own count agree.
                    assert (int(text), int(counted), int(order)) == (number, number, number + 1)
                    workers.add(worker)
                await sender
                return workers

        async def send(socket: ClientConnection) -> None:
            for number in range(each):
                await socket.send(json.dumps(number))

        found = await asyncio.gather(*(talk() for _ in range(SOCKETS)))
    assert len(set.union(*found)) == WORKERS
    # No socket belongs to a worker.
    assert all(len(workers) > 1 for workers in found)
