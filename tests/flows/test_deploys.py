"""Sockets outlive their workers: all of these are replaced several times under traffic, gently and by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.flows.processes import Process
from tests.flows.site import ChannelSite, channel_site
from tests.management.commands.project import Project

SOCKETS = int(os.environ.get("DEPLOY_SOCKETS", "1000"))
WORKERS = 3
#: How the workers are replaced, one after the other: all at once or each for itself, and by which signal. Kills come
#: first: what they lose is waited for while the others go on.
DEPLOYS = [
    ("rolling", "SIGKILL"),
    ("at once", "SIGKILL"),
    ("at once", "SIGTERM"),
    ("rolling", "SIGTERM"),
]
#: Seconds without an answer after which a frame counts as lost: the server finds a dead worker after two or three.
LOST = 20.0

CONSUMERS = """
    import time
    def receive(message):
        time.sleep(0.002)
        message.reply_channel.send({"text": message["text"]})
"""
ROUTING = """
    from fastchannels import route
    channel_routing = [
        route("websocket.receive", "shop.consumers.receive", path="^/safe", redeliver=True),
        route("websocket.receive", "shop.consumers.receive"),
    ]
"""


class Client:
    """One socket: a frame, its answer, a pause, and so on."""

    def __init__(self, port: int, path: str) -> None:
        self.url = f"ws://127.0.0.1:{port}/{path}"
        self.path = path
        self.heard = asyncio.Event()
        self.unanswered = 0

    async def run(self, opened: asyncio.Semaphore, running: asyncio.Event, ending: asyncio.Event) -> None:
        async with opened:
            socket = await connect(self.url, open_timeout=60, ping_interval=None)
        async with socket:
            await running.wait()
            number = 0
            while not ending.is_set():
                number += 1
                await socket.send(str(number))
                try:
                    while (answer := int(await asyncio.wait_for(socket.recv(), LOST))) != number:
                        # A worker that died after its answer and before its acknowledgement.
                        assert answer < number
                    self.heard.set()
                except asyncio.TimeoutError:
                    self.unanswered += 1
                await asyncio.sleep(random.random())


async def listening(workers: list[Process]) -> None:
    """They work, and end in order at SIGTERM: before, it ends them as any program."""
    for worker in workers:
        await asyncio.to_thread(worker.wait_for, "listening on", 60)


async def replace(site: ChannelSite, workers: list[Process], how: str, number: signal.Signals) -> list[Process]:
    """The workers that follow ``workers``."""
    successors = []
    await listening(workers)
    for worker in workers:
        if how == "rolling":
            successors.append(site.worker("--threads", "2"))
            await listening(successors)
        worker.popen.send_signal(number)
    for worker in workers:
        status = await asyncio.to_thread(worker.wait, 60)
        assert status == (0 if number is signal.SIGTERM else -number)
    if how == "at once":
        successors = [site.worker("--threads", "2") for _ in workers]
    return successors


@pytest.mark.timeout(400)
async def test_no_socket_notices_that_all_workers_were_replaced(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("shop/consumers.py", CONSUMERS)
    project.write("shop/routing.py", ROUTING)
    project.settings("""
        CHANNEL_LAYERS["default"]["CONFIG"]["size"] = 32 * 1024 * 1024
        CHANNEL_LAYERS["default"]["CONFIG"]["capacity"] = 5000
    """)
    with channel_site(project) as site:
        port = site.server("-v", "0", "--ack-timeout", "1")
        workers = [site.worker("--threads", "2") for _ in range(WORKERS)]
        clients = [Client(port, "safe" if number % 2 else "plain") for number in range(SOCKETS)]
        opened, running, ending = asyncio.Semaphore(50), asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(client.run(opened, running, ending)) for client in clients]
        running.set()
        await asyncio.wait_for(asyncio.gather(*(client.heard.wait() for client in clients)), 120)
        for how, name in DEPLOYS:
            workers = await replace(site, workers, how, signal.Signals[name])
            await asyncio.sleep(2)
        ending.set()
        # A socket that was closed raises here.
        await asyncio.wait_for(asyncio.gather(*tasks), 120)
        log = site.servers[0].output
    lost = {path: sum(client.unanswered for client in clients if client.path == path) for path in ("safe", "plain")}
    assert lost["safe"] == 0, log
    # At most what six threads had in hand at each of two deploys by SIGKILL, and each of it is told.
    assert lost["plain"] <= 2 * WORKERS * 2
    told = re.findall(r"is lost with its worker.*?(?:\((\d+) more like it\))?$", log, re.MULTILINE)
    assert sum(1 + int(more or 0) for more in told) >= lost["plain"]
