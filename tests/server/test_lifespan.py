from __future__ import annotations

import asyncio

import pytest

from fastchannels.exceptions import UsageError
from fastchannels.server.server import Config, Server
from tests.server.support import connect, serving


async def answer(scope, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(sorted(scope.get("state", "none"))).encode()})


async def test_state_is_filled_and_copied_for_each_request():
    events = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["pool"] = object()
            await send({"type": "lifespan.startup.complete"})
            events.append("started")
            assert (await receive())["type"] == "lifespan.shutdown"
            events.append("stopped")
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = repr(sorted(scope["state"]))
        scope["state"]["mine"] = 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body.encode()})

    async with serving(application) as server:
        assert events == ["started"]
        async with connect(server) as client:
            for _ in range(2):
                assert (await client.get())[2] == b"['pool']"
    assert events == ["started", "stopped"]


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_an_application_without_lifespan_is_served_without_state(how, caplog):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            if how == "raise":
                raise ValueError("http only")
            return
        assert "state" not in scope
        await answer(scope, send)

    async with serving(application) as server, connect(server) as client:
        assert (await client.get())[0] == 200
    assert "http only" not in caplog.text


async def test_failed_startup():
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(UsageError, match="no database"):
        async with serving(application):
            pass


async def test_failed_shutdown_is_logged(caplog):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "stuck pool"})

    async with serving(application):
        pass
    assert "stuck pool" in caplog.text


async def test_exception_after_the_startup_is_logged_and_does_not_stop_the_server(caplog):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            raise RuntimeError("background task died")
        await answer(scope, send)

    async with serving(application) as server, connect(server) as client:
        assert (await client.get())[0] == 200
    assert "background task died" in caplog.text


async def test_unexpected_messages_raise():
    raised = []

    async def application(scope, receive, send):
        if scope["type"] != "lifespan":
            return
        await receive()
        for kind in ("lifespan.shutdown.complete", "http.response.start", None):
            try:
                await send({"type": kind})
            except ValueError as error:
                raised.append(error)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(0)
        await send({"type": "lifespan.shutdown.complete"})

    async with serving(application):
        assert len(raised) == 3


@pytest.mark.parametrize(
    ("how", "why"), [("raise", r"it raised ValueError\('no lifespan'\)"), ("return", "it returned")]
)
async def test_an_application_without_a_required_lifespan_is_refused(how, why):
    async def without(scope, receive, send):
        if how == "raise":
            raise ValueError("no lifespan")

    with pytest.raises(UsageError, match=f"no lifespan, which --lifespan on asks for: {why}"):
        async with serving(without, lifespan="on"):
            pass


async def test_no_lifespan_when_it_is_off():
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    async with serving(application, lifespan="off"):
        pass
    assert seen == []


async def test_a_start_that_is_given_up_ends_the_lifespan():
    ended = asyncio.Event()

    async def slow(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server = Server(Config(port=0), application=slow)
    start = asyncio.ensure_future(server.start())
    done, _ = await asyncio.wait((start,), timeout=0.05)
    assert not done
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert ended.is_set()
