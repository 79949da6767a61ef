"""Drive the demo with two WebSocket clients and see that it keeps its promise: a worker dies, no socket notices.

    python examples/demo_check.py

Runs examples/demo.py on a free port, says what it saw step by step, and exits with 0 when all of it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEMO = Path(__file__).resolve().with_name("demo.py")
WAIT = 20.0  # seconds at most for any one step
AGAIN = 2.0  # seconds until a client says again what was not answered: a message of a killed worker is lost


class CheckFailed(Exception):
    """The demo did not do what it should."""


class Demo:
    """``demo.py`` as a process, and what it printed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lines: list[str] = []
        self.news = asyncio.Condition()

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(DEMO),
            "--port",
            str(self.port),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while line := await self.process.stdout.readline():
            async with self.news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.news.notify_all()
        async with self.news:
            self.news.notify_all()

    def find(self, pattern: str) -> list[re.Match[str]]:
        return [found for line in self.lines if (found := re.search(pattern, line))]

    async def prints(self, pattern: str) -> re.Match[str]:
        """The first line that matches; waits for it."""
        async with self.news:
            await within(
                self.news.wait_for(lambda: self.find(pattern) or self.reader.done()), f"a line that matches {pattern!r}"
            )
        if not self.find(pattern):
            raise CheckFailed(f"the demo ended without a line that matches {pattern!r}")
        return self.find(pattern)[0]

    async def end(self) -> None:
        """End it if it still runs, whatever happened before."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 2 * WAIT)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        await self.reader


class Talker:
    """One person in the room, who remembers every frame."""

    def __init__(self, name: str, socket: ClientConnection) -> None:
        self.name, self.socket = name, socket
        self.frames: list[dict] = []
        self.news = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                async with self.news:
                    self.frames.append(json.loads(text))
                    self.news.notify_all()

    def heard(self, **wanted: str) -> list[dict]:
        return [frame for frame in self.frames if wanted.items() <= frame.items()]

    async def hear(self, **wanted: str) -> dict:
        """The first frame that has all of ``wanted``; waits for it."""
        async with self.news:
            await within(self.news.wait_for(lambda: self.heard(**wanted)), f"{self.name} to hear {wanted}")
        return self.heard(**wanted)[0]

    async def say(self, frame: dict, **answer: str) -> dict:
        """Send ``frame`` until its answer comes back: a layer delivers at most once."""
        deadline = time.monotonic() + WAIT
        while True:
            await self.socket.send(json.dumps(frame))
            try:
                return await asyncio.wait_for(self.hear(**answer), AGAIN)
            except asyncio.TimeoutError:
                if time.monotonic() > deadline:
                    raise CheckFailed(f"{self.name} sent {frame} and got no answer in {WAIT:.0f} s") from None

    async def talk(self, other: Talker, text: str) -> dict:
        """Say ``text`` and see that both hear it."""
        ref = f"{self.name}-{time.monotonic_ns()}"
        frame = await self.say({"type": "message", "text": text, "ref": ref}, type="message", ref=ref, text=text)
        await other.hear(type="message", ref=ref, text=text, name=self.name)
        return frame

    async def chat(self, other: Talker, count: int) -> list[dict]:
        return [await self.talk(other, f"{number} of {count} by {self.name}") for number in range(1, count + 1)]


async def within(awaitable, what: str):
    try:
        return await asyncio.wait_for(awaitable, WAIT)
    except asyncio.TimeoutError:
        raise CheckFailed(f"waited {WAIT:.0f} s in vain for {what}") from None


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=WAIT) as response:
        return response.read()


def saw(text: str) -> None:
    print(f"ok  {text}", flush=True)


def expect(holds: object, what: str) -> None:
    if not holds:
        raise CheckFailed(what)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def check(demo: Demo) -> None:
    url = (await demo.prints(r"The chat is served at (http://\S+)"))[1]
    await demo.prints("Ctrl-C stops everything")
    server = int(demo.find(r"server (\d+) +holds")[0][1])
    workers = [int(found[1]) for found in demo.find(r"worker (\d+) +runs")]
    expect(len(workers) == 2, f"expected 2 workers, the demo names {workers}")
    saw(f"the demo serves {url} with server {server} and workers {workers[0]} and {workers[1]}")

    page = await asyncio.to_thread(fetch, url)
    about = json.loads(await asyncio.to_thread(fetch, f"{url}about/"))
    expect(b"chat.js" in page, "the page does not name chat.js")
    expect(b"WebSocket" in await asyncio.to_thread(fetch, f"{url}static/chat/chat.js"), "chat.js is not served")
    expect(about["process"] in workers, f"process {about['process']} answered HTTP, which is no worker of {workers}")
    saw(f"HTTP: {len(page)} bytes of page and its script; /about/ was answered by worker {about['process']}")

    address = f"{url.replace('http', 'ws', 1)}chat/check/"
    options = {"origin": url.rstrip("/"), "open_timeout": WAIT, "proxy": None, "max_queue": None}
    async with connect(address, **options) as one, connect(address, **options) as two:
        ada, ben = Talker("Ada", one), Talker("Ben", two)
        await ada.say({"type": "hello", "name": "Ada"}, type="welcome")
        await ben.say({"type": "hello", "name": "Ben"}, type="welcome")
        await ada.hear(type="join", name="Ben")
        saw("two WebSockets are open; Ada hears that Ben joined")
        await ada.talk(ben, "Hello, Ben")
        await ben.talk(ada, "Hello, Ada")
        await ada.socket.send('{"type": "typing"}')
        await ben.hear(type="typing", name="Ada")
        saw("messages arrive both ways, and a typing notice")

        talking = asyncio.gather(ada.chat(ben, 50), ben.chat(ada, 50))
        victim = (await ben.hear(type="message", text="10 of 50 by Ada"))["process"]
        expect(victim in workers, f"process {victim} handled a message, which is no worker of {workers}")
        os.kill(victim, signal.SIGKILL)
        before = len(ben.heard(type="message"))
        said = sum(map(len, await talking))
        expect(one.close_code is None and two.close_code is None, "a socket was closed when the worker died")
        saw(
            f"worker {victim} was killed (SIGKILL) while they talked, after {before} messages:"
            f" all {said} arrived, and both sockets stayed open"
        )

        started = int((await demo.prints(rf"worker {victim} was ended by SIGKILL: started worker (\d+)"))[1])
        deadline = time.monotonic() + WAIT
        while (await ada.talk(ben, "Is the new one there?"))["process"] != started:
            expect(time.monotonic() < deadline, f"worker {started} handled nothing within {WAIT:.0f} s")
        saw(f"worker {started} was started in its place and handles messages of the same sockets")

        demo.process.send_signal(signal.SIGINT)
        await within(asyncio.gather(one.wait_closed(), two.wait_closed()), "the server to close the sockets")
        await asyncio.gather(ada.reader, ben.reader)
        expect(one.close_code == two.close_code == 1012, f"closed with {one.close_code} and {two.close_code}, not 1012")
    status = await within(demo.process.wait(), "the demo to stop after Ctrl-C")
    await demo.reader
    expect(status == 0, f"the demo ended with status {status} after Ctrl-C")
    expect(not demo.find("Traceback"), "the demo printed a traceback")
    left = [pid for pid in (server, *workers, started) if alive(pid)]
    expect(not left, f"processes {left} outlived the demo")
    saw("Ctrl-C stopped it all: status 0, no traceback, no process left behind")


async def main() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = Demo(port)
    await demo.start()
    try:
        await check(demo)
    except Exception as error:  # whatever went wrong, say what the demo said about it
        print(f"FAILED  {error or type(error).__name__}\n\nwhat the demo printed:", flush=True)
        print("\n".join(f"    {line}" for line in demo.lines), flush=True)
        return 1
    finally:
        await demo.end()
    print("The demo does what it says.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
