"""What users see when Redis is away, comes back, or refuses."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.outage import Attempts, Outage, ReplyError, is_passing

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, soon, until


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may break; not started."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def layer_of(server: RedisServer, **options: Any) -> RedisChannelLayer:
    layer = RedisChannelLayer(**{"hosts": [server.url], "reconnect_timeout": DEADLINE, **options})
    layer.heartbeat = 0.1
    return layer


async def test_down_at_start(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    layer = layer_of(own_server)
    name = layer.new_local_channel("specific")
    calls = [
        asyncio.create_task(layer.receive(name)),
        asyncio.create_task(layer.receive("jobs")),
        asyncio.create_task(asyncio.to_thread(layer.receive_many, ["sync"], True, DEADLINE)),
        asyncio.create_task(layer.send(name, HELLO)),
        asyncio.create_task(layer.send("jobs", HELLO)),
        asyncio.create_task(layer.send("sync", HELLO)),
        asyncio.create_task(asyncio.to_thread(layer.group_send_sync, "g", HELLO)),
    ]
    with caplog.at_level(logging.INFO, "fastchannels.layer"):
        await until(lambda: len(caplog.records) >= 3)
        lines = [record.getMessage() for record in caplog.records]
        assert not any(call.done() for call in calls)
        for line in lines:
            assert f"127.0.0.1:{own_server.port}" in line
            assert "ConnectionRefusedError" in line
            assert f"of {DEADLINE:g} s" in line
        # A line a step for all connections together: the steps double from 50 ms.
        begun = time.monotonic()
        before = len(caplog.records)
        await asyncio.sleep(0.5)
        assert len(caplog.records) - before <= 8 * (time.monotonic() - begun) + 2
        own_server.start()
        results = await soon(asyncio.gather(*calls))
        assert results == [HELLO, HELLO, ("sync", HELLO), None, None, None, None]
        await until(lambda: "is back after" in caplog.records[-1].getMessage())
    await asyncio.to_thread(layer.close_sync)


async def test_gives_up(own_server: RedisServer) -> None:
    layer = layer_of(own_server, reconnect_timeout=0.3)
    name = layer.new_local_channel("specific")
    begun = time.monotonic()
    for call in (
        layer.send("jobs", HELLO),
        layer.send(name, HELLO),
        layer.receive("jobs"),
        layer.receive(name),
        layer.group_add("g", name),
        layer.group_send("g", HELLO),
        layer.flush(),
        asyncio.to_thread(layer.send_sync, "jobs", HELLO),
        asyncio.to_thread(layer.receive_many, ["jobs"], True, None),
    ):
        with pytest.raises(LayerUnavailable, match="could not be reached"):
            await soon(call)
    assert time.monotonic() - begun < 9 * 2
    assert layer.groups.groups() == []
    # Nothing is broken for good.
    own_server.start()
    await soon(layer.send("jobs", HELLO))
    assert await soon(layer.receive("jobs")) == HELLO
    await soon(layer.send(name, HELLO))
    assert await soon(layer.receive(name)) == HELLO


async def test_receive_many_keeps_its_timeout_while_redis_is_away(own_server: RedisServer) -> None:
    layer = layer_of(own_server)
    begun = time.monotonic()
    assert await soon(asyncio.to_thread(layer.receive_many, ["jobs"], True, 0.3)) == (None, None)
    assert 0.25 < time.monotonic() - begun < 3


async def test_killed_and_started_again(own_server: RedisServer) -> None:
    own_server.start()
    layer, other = layer_of(own_server), layer_of(own_server)
    name = await layer.new_channel()
    got: list[dict[str, Any]] = []
    layer.attach(name, got.append)
    await layer.group_add("g", name)
    idle = await layer.new_channel()
    receives = [asyncio.create_task(layer.receive(idle)), asyncio.create_task(layer.receive("jobs"))]
    many = asyncio.create_task(asyncio.to_thread(layer.receive_many, ["sync"], True, DEADLINE))
    await other.send(name, {"n": 0})
    await until(lambda: got == [{"n": 0}])
    await asyncio.to_thread(own_server.kill)
    sending = asyncio.create_task(other.send("jobs", HELLO))
    await asyncio.sleep(0.1)
    own_server.start()
    await soon(sending)
    await soon(other.send(idle, HELLO))
    await soon(other.send("sync", HELLO))
    assert await soon(asyncio.gather(*receives)) == [HELLO, HELLO]
    assert await soon(many) == ("sync", HELLO)
    with own_server.client() as redis:
        await until(lambda: redis.hlen(layer.keys.group("g")) == 1)
    await other.group_send("g", {"n": 1})
    await until(lambda: got == [{"n": 0}, {"n": 1}])


async def test_outcome_of_a_written_send_is_unknown(own_server: RedisServer) -> None:
    own_server.start()
    layer = layer_of(own_server)
    await layer.send("jobs", HELLO)
    await asyncio.to_thread(layer.send_sync, "jobs", HELLO)
    assert own_server._process is not None
    own_server._process.send_signal(signal.SIGSTOP)
    sends = [asyncio.create_task(layer.send("jobs", HELLO)), asyncio.create_task(layer.group_send("g", HELLO))]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(own_server.kill)
    for send in sends:
        with pytest.raises(LayerUnavailable, match="unknown"):
            await soon(send)
    own_server.start()
    await soon(layer.send("jobs", {"n": 2}))
    assert await layer.pending("jobs") == 1


async def test_frozen_redis_does_not_hang_a_send(own_server: RedisServer) -> None:
    own_server.start()
    layer = layer_of(own_server, reconnect_timeout=0.4)
    await layer.send("jobs", HELLO)
    assert own_server._process is not None
    own_server._process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LayerUnavailable, match="no answer"):
            await soon(layer.send("jobs", HELLO))
    finally:
        own_server._process.send_signal(signal.SIGCONT)


async def test_scripts_that_redis_forgot_are_loaded_again_in_order(own_server: RedisServer) -> None:
    own_server.start()
    layer = layer_of(own_server, capacity=10_000)
    await layer.send("jobs", {"n": 0})
    await asyncio.to_thread(layer.send_sync, "sync", HELLO)
    n = 1
    with own_server.client() as redis:
        for _ in range(20):
            redis.script_flush()
            sends = []
            for _ in range(20):
                sends.append(asyncio.create_task(layer.send("jobs", {"n": n})))
                n += 1
                await asyncio.sleep(0)
            await soon(asyncio.gather(*sends))
        redis.script_flush()
        await asyncio.to_thread(layer.send_sync, "sync", HELLO)
    assert [(await soon(layer.receive("jobs")))["n"] for _ in range(n)] == list(range(n))
    assert await layer.pending("sync") == 2


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
async def test_refused_login_is_an_error_at_once(tmp_path: Path, login: str, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, "--requirepass", "hunter2") as server:
        layer = layer_of(server, hosts=[f"redis://{login}127.0.0.1:{server.port}"], reconnect_timeout=30)
        name = layer.new_local_channel("specific")
        begun = time.monotonic()
        for call in (
            layer.send("jobs", HELLO),
            layer.receive("jobs"),
            layer.receive(name),
            asyncio.to_thread(layer.send_sync, "jobs", HELLO),
            asyncio.to_thread(layer.receive_many, ["jobs"], True, 5.0),
        ):
            with pytest.raises(LayerUnavailable, match=r"(NOAUTH|WRONGPASS).*password"):
                await soon(call)
        assert time.monotonic() - begun < 5
        assert not any("hunter2" in record.getMessage() or "wrong" in record.getMessage() for record in caplog.records)
        with server.client(password="hunter2") as redis:
            # No storm: a few logins for each call.
            assert redis.info("commandstats").get("cmdstat_auth", {"calls": 0})["calls"] < 20
        right = layer_of(server, hosts=[f"redis://:hunter2@127.0.0.1:{server.port}/4"])
        await soon(right.send("jobs", HELLO))
        assert await soon(asyncio.to_thread(right.receive_many, ["jobs"])) == ("jobs", HELLO)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself; its key is beside it."""
    assert shutil.which("openssl"), "the tests need openssl to make a certificate: make parts installs it"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    return tmp_path / "cert.pem"


async def test_tls(tmp_path: Path, certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    server = RedisServer(tmp_path, "--port", "0", "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
                         "--tls-auth-clients", "no")  # fmt: skip
    server._options = (*server._options, "--tls-port", str(server.port))
    try:
        server.start()
    except AssertionError:
        pytest.skip("this redis-server has no TLS")
    try:
        url = f"rediss://127.0.0.1:{server.port}"
        layer = layer_of(server, hosts=[{"address": url, "ssl_ca_certs": str(certificate)}])
        name = await layer.new_channel()
        await soon(layer.send(name, HELLO))
        assert await soon(layer.receive(name)) == HELLO
        await soon(asyncio.to_thread(layer.send_sync, "jobs", HELLO))
        assert await soon(layer.receive("jobs")) == HELLO
        link = layer._session().seats[0].link
        answers = []
        for n in range(3):
            answers.append(link.call("ECHO", n))
            await asyncio.sleep(0)
            # Each answer is a TLS record, and they wait together.
            time.sleep(0.1)  # noqa: ASYNC251
        assert [await soon(answer) for answer in answers] == [b"0", b"1", b"2"]
        await layer.close()
        begun = time.monotonic()
        distrustful = layer_of(server, hosts=[url], reconnect_timeout=30)
        for call in (distrustful.send("jobs", HELLO), asyncio.to_thread(distrustful.send_sync, "jobs", HELLO)):
            with pytest.raises(LayerUnavailable, match="certificate verify failed"):
                await soon(call)
        assert time.monotonic() - begun < 5
    finally:
        server.kill()


def test_which_errors_pass() -> None:
    assert is_passing(ConnectionRefusedError())
    assert is_passing(TimeoutError())
    assert is_passing(ReplyError("LOADING Redis is loading the dataset in memory"))
    assert is_passing(ssl.SSLEOFError())
    assert not is_passing(ssl.SSLCertVerificationError())
    assert not is_passing(ReplyError("WRONGPASS invalid username-password pair"))
    assert not is_passing(ReplyError("NOPERM this user has no permissions"))


def test_delays_grow_to_a_bound() -> None:
    attempts = Attempts(Outage(Address(), 1000))
    delays = [attempts.failed(OSError()) for _ in range(12)]
    assert delays[0] <= 0.075
    assert all(0.25 <= delay <= 0.75 for delay in delays[-4:])
