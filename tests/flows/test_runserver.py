"""``manage.py runserver``: a consumer is edited while a page is open."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from tests.flows.processes import Process, copy_examples, eventually, fetch, free_port
from tests.flows.talker import Talker, talker


def shout(consumers: Path) -> None:
    """Edit the chat: from now on it shouts."""
    source = consumers.read_text()
    edited = source.replace('frame["text"][:2000]', 'frame["text"][:2000].upper()')
    assert edited != source
    consumers.write_text(edited)


def edit_again(consumers: Path) -> None:
    """Django's reloader overlooks an edit that comes before its own first look at a file."""
    status = consumers.stat()
    os.utime(consumers, ns=(status.st_atime_ns, status.st_mtime_ns + 2_000_000_000))


async def said_back(person: Talker, text: str) -> str:
    ref = await person.say(text)
    while True:
        try:
            frame = await person.hear(type="message", ref=ref, timeout=3)
        except asyncio.TimeoutError:  # taken by a worker that was just ended: say it again
            await person.send(type="message", text=text, ref=ref)
            continue
        heard: str = frame["text"]
        return heard


def runserver(project: Path, port: int, layer: Path) -> Process:
    return Process("manage.py", "runserver", f"127.0.0.1:{port}", cwd=project, env={"CHAT_LAYER": str(layer)})


async def closed(person: Talker, timeout: float) -> bool:
    """Whether the other end closes within ``timeout`` seconds."""
    try:
        await person.until_closed(timeout)
    except asyncio.TimeoutError:
        return False
    return True


async def test_editing_a_consumer_keeps_the_socket_of_the_talk_version_open(tmp_path: Path) -> None:
    project, port = copy_examples(tmp_path) / "talk", free_port()
    with runserver(project, port, tmp_path / "layer") as server:
        eventually(lambda: fetch(f"http://127.0.0.1:{port}/about/"), "runserver served a page")
        async with talker(port, "Ada") as ada:
            assert await said_back(ada, "quiet") == "quiet"
            consumers, deadline, look = project / "chat" / "consumers.py", time.monotonic() + 30, time.monotonic() + 5
            shout(consumers)
            while await said_back(ada, "quiet") != "QUIET":
                assert time.monotonic() < deadline, "the edited consumer did not run"
                if time.monotonic() > look:
                    edit_again(consumers)
                    look += 5
            assert ada.socket.close_code is None
    assert "Traceback" not in server.output


async def test_editing_a_consumer_reloads_the_channels_4_version(tmp_path: Path) -> None:
    project, port = copy_examples(tmp_path) / "channels4", free_port()
    with runserver(project, port, tmp_path / "layer") as server:
        eventually(lambda: fetch(f"http://127.0.0.1:{port}/about/"), "runserver served a page")
        async with talker(port, "Ada") as ada:
            assert await said_back(ada, "quiet") == "quiet"
            consumers, deadline = project / "chat" / "consumers.py", time.monotonic() + 30
            shout(consumers)
            while not await closed(ada, 5):
                assert time.monotonic() < deadline, "the edited consumer was not noticed"
                edit_again(consumers)
        eventually(lambda: fetch(f"http://127.0.0.1:{port}/about/"), "runserver served again")
        async with talker(port, "Ada") as ada:
            assert await said_back(ada, "quiet") == "QUIET"
    assert "Traceback" not in server.output
