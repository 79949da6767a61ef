"""Requests a second of CPU of Django's ASGI handler with no server at all: ``django_alone.py sync|async SECONDS``.

A server can only take from this, so it is the ceiling of the Django rows. Sixteen requests are under way at once.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from benchmarks.drivers import django_app

SCOPE = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/",
    "raw_path": b"/", "query_string": b"", "root_path": "", "headers": [(b"host", b"127.0.0.1"), (b"accept", b"*/*")],
    "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000),
}  # fmt: skip


async def main(kind: str, seconds: float) -> None:
    application = getattr(django_app, f"django_{kind}")
    done = 0

    async def requests() -> None:
        nonlocal done
        while running:
            messages = [{"type": "http.request", "body": b"", "more_body": False}]

            async def receive(messages=messages):
                return messages.pop() if messages else await asyncio.Future()

            async def send(message):
                pass

            await application(SCOPE, receive, send)
            done += 1

    running = True
    tasks = [asyncio.ensure_future(requests()) for _ in range(16)]
    await asyncio.sleep(0.3)
    before, begin, cpu = done, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    count, used = done - before, time.process_time() - cpu
    running = False
    await asyncio.gather(*tasks)
    print(f"{count / used:,.0f} a second of CPU, {count / (time.perf_counter() - begin):,.0f} a second")


uvloop.run(main(sys.argv[1], float(sys.argv[2])))
