"""What a change of redis-py could break: it reads URLs and TLS options, and no command goes through it.

``make test-redis-py`` runs this file under every major version from 5 on, and leaves the readers idle for longer.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import Any

import pytest
import redis

from fastchannels.layers.redis.address import parse_host

from ..redis_server import RedisServer
from ..waits import soon, until

#: Seconds that the readers wait. redis-py 8 gives its own connections a timeout of 5 s (D-43).
IDLE = float(os.environ.get("FASTCHANNELS_TEST_IDLE", "5.5"))


def test_version() -> None:
    assert int(redis.__version__.split(".")[0]) >= 5
    wanted = os.environ.get("FASTCHANNELS_TEST_REDIS_PY")
    assert wanted is None or redis.__version__.startswith(f"{wanted}.")


def test_tls_options_of_a_url() -> None:
    address = parse_host("rediss://me:p%40w@example.org:7/3?ssl_cert_reqs=none&ssl_check_hostname=false")
    assert (address.host, address.port, address.db) == ("example.org", 7, 3)
    assert (address.username, address.password) == ("me", "p@w")
    assert address.tls is not None
    assert address.tls.verify_mode == ssl.CERT_NONE
    strict = parse_host("rediss://example.org").tls
    assert strict is not None
    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname


@pytest.mark.timeout(60 + IDLE)
async def test_idle_readers_stay(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    other = make_layer(prefix=layer.prefix, hosts=[f"unix://{server.path}"])
    local, member = await layer.new_channel(), await layer.new_channel()
    got: list[dict[str, Any]] = []
    layer.attach(member, got.append)
    await layer.group_add("g", member)
    waiting = [
        asyncio.create_task(layer.receive("jobs")),
        asyncio.create_task(layer.receive(local)),
        asyncio.create_task(asyncio.to_thread(layer.receive_many, ["sync"], True, IDLE + 10)),
    ]
    begun = time.monotonic()
    done, _ = await asyncio.wait(waiting, timeout=IDLE, return_when=asyncio.FIRST_COMPLETED)
    assert not done
    assert time.monotonic() - begun >= IDLE * 0.9
    for name in ("jobs", local, "sync"):
        await other.send(name, {"to": name})
    await other.group_send("g", {"to": "g"})
    assert await soon(asyncio.gather(*waiting)) == [{"to": "jobs"}, {"to": local}, ("sync", {"to": "sync"})]
    assert await layer.pending("jobs") == 0
    await until(lambda: got == [{"to": "g"}])
