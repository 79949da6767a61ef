"""Settings written for channels_redis work when BACKEND alone is changed, and so do consumers of Channels 4."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio.retry
import redis.backoff
import redis.credentials
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.consumer import SyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import get_channel_layer
from django.test import override_settings

from fastchannels.exceptions import InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, in_thread, soon, until

BACKEND = "fastchannels.layers.redis.RedisChannelLayer"
RETRY = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 1)

#: What CONFIG may hold in the documentation of channels_redis 4, for both of its layers.
CONFIGS: list[dict[str, Any]] = [
    {},
    {"hosts": None},
    {"hosts": [("127.0.0.1", 6379)]},
    {"hosts": [["localhost", 6379], ("localhost", 6380)]},
    {"hosts": ["redis://:password@127.0.0.1:6379/0"]},
    {"hosts": ["rediss://user:password@redis.example.org:6380/2"]},
    {"hosts": ["unix:///run/redis.sock?db=1"]},
    {"hosts": [{"address": "redis://127.0.0.1:6379", "db": 1, "socket_timeout": None, "retry": RETRY}]},
    {"hosts": [{"address": "rediss://redis.example.org", "ssl_cert_reqs": None}]},
    {"hosts": [{"host": "127.0.0.1", "port": 6379, "password": "x", "db": 2, "retry_on_timeout": True}]},
    {"hosts": [{"sentinels": [("127.0.0.1", 26379)], "master_name": "mymaster", "sentinel_kwargs": {"password": "x"}}]},
    {"hosts": [{"address": "redis://h", "health_check_interval": 15, "socket_keepalive": True, "max_connections": 9}]},
    {"prefix": "chat", "expiry": 10, "group_expiry": 3600, "capacity": 1500, "random_prefix_length": 8},
    {"channel_capacity": {"http.request": 200, "http.response!*": 10, re.compile(r"^websocket.send\!.+"): 20}},
    {"symmetric_encryption_keys": ["new key", b"old key"], "serializer_format": "json"},
    {"symmetric_encryption_keys": None, "channel_capacity": None, "serializer_format": "msgpack"},
    {"on_disconnect": "redis.disconnect", "on_reconnect": None},
]


@pytest.fixture
def configured(server: RedisServer) -> Iterator[RedisChannelLayer]:
    config = {"hosts": [server.url], "prefix": "dropin", "symmetric_encryption_keys": ["key"]}
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": config}}):
        layer: Any = get_channel_layer()
        yield layer
        in_thread(layer.flush_sync)
        layer.close_sync()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_documented_config(config: dict[str, Any]) -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": config}}):
        layer: Any = get_channel_layer()
        assert type(layer) is RedisChannelLayer
        assert get_channel_layer() is layer
        assert layer.extensions[:2] == ["groups", "flush"]
        assert layer.get_capacity("jobs") == config.get("capacity", 100)
        if config.get("channel_capacity"):
            assert layer.get_capacity("http.response!x") == 10
            assert layer.get_capacity("websocket.send!x") == 20


def test_a_misspelt_option() -> None:
    for config, said in (
        ({"hots": []}, "'hots': did you mean 'hosts'?"),
        ({"symetric_encryption_keys": []}, "did you mean 'symmetric_encryption_keys'?"),
        ({"on_reconect": "x"}, "did you mean 'on_reconnect'?"),
        ({"hosts": [{"host": "h", "pasword": "x"}]}, "did you mean 'password'?"),
        ({"random_prefix_length": "12"}, "random_prefix_length"),
    ):
        with (
            override_settings(CHANNEL_LAYERS={"default": {"BACKEND": BACKEND, "CONFIG": config}}),
            pytest.raises(InvalidChannelLayerError, match=re.escape(said)),
        ):
            get_channel_layer()


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("chat", self.channel_name)

    async def receive_json(self, content: Any) -> None:
        await self.channel_layer.group_send("chat", {"type": "chat.message", "content": content})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class SyncChat(JsonWebsocketConsumer):
    groups = ["chat"]

    def receive_json(self, content: Any) -> None:
        async_to_sync(self.channel_layer.group_send)("chat", {"type": "chat.message", "content": content})

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json(event["content"])


class Socket(ApplicationCommunicator):
    """A client; ``channels.testing`` has one, which cannot be imported without Daphne."""

    def __init__(self, consumer: Any) -> None:
        super().__init__(consumer.as_asgi(), {"type": "websocket", "path": "/", "headers": [], "subprotocols": []})

    async def connect(self) -> None:
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(DEADLINE))["type"] == "websocket.accept"

    async def say(self, content: Any) -> None:
        await self.send_input({"type": "websocket.receive", "text": json.dumps(content)})

    async def hear(self) -> Any:
        return json.loads((await self.receive_output(DEADLINE))["text"])

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(DEADLINE)


class Worker(SyncConsumer):
    def work_do(self, message: dict[str, Any]) -> None:
        async_to_sync(get_channel_layer().send)("done", {"n": message["n"] + 1})


async def test_consumers_of_channels_4(configured: RedisChannelLayer) -> None:
    sockets = [Socket(kind) for kind in (Chat, Chat, SyncChat)]
    for socket in sockets:
        await socket.connect()
    for turn, socket in enumerate(sockets):
        await socket.say({"turn": turn})
        for receiver in sockets:
            assert await receiver.hear() == {"turn": turn}
    # From a view or a task, without an event loop and with one of its own.
    message = {"type": "chat.message", "content": "sync"}
    await soon(asyncio.to_thread(configured.group_send_sync, "chat", message))
    await soon(asyncio.to_thread(async_to_sync(configured.group_send), "chat", message))
    for receiver in sockets:
        assert [await receiver.hear() for _ in range(2)] == ["sync", "sync"]
    for socket in sockets:
        await socket.leave()
    await until(lambda: configured.groups.groups() == [])
    await soon(asyncio.to_thread(configured.close_sync))


async def test_a_worker_of_channels_4(configured: RedisChannelLayer) -> None:
    worker = ApplicationCommunicator(Worker.as_asgi(), {"type": "channel", "channel": "work"})
    await configured.send("work", {"type": "work.do", "n": 1})
    await worker.send_input(await soon(configured.receive("work")))
    assert await soon(configured.receive("done")) == {"n": 2}
    worker.stop()


class Tokens(redis.credentials.CredentialProvider):
    """A new token for each login, as the identity services of clouds have it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.made = 0

    def get_credentials(self) -> tuple[str, str]:
        token = secrets.token_hex()
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", "web", f">{token}")
        self.made += 1
        return "web", token


async def test_acl_user_and_credential_provider(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "web", "on", ">secret", "~web|*", "&*", "+@all", "-@dangerous")
        user = f"redis://web:secret@127.0.0.1:{server.port}"
        layer = RedisChannelLayer(hosts=[user], prefix="web")
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await layer.group_send("g", HELLO)
        assert await soon(layer.receive(name)) == HELLO
        # Keys beyond its prefix are refused by Redis, which is said, and nothing is tried again.
        with pytest.raises(LayerUnavailable, match="NOPERM"):
            await soon(RedisChannelLayer(hosts=[user], prefix="other").send("jobs", HELLO))
        await layer.close()

        provider = Tokens(server)
        host = {"host": "127.0.0.1", "port": server.port, "credential_provider": provider}
        layer = RedisChannelLayer(hosts=[host], prefix="web", on_reconnect="back")
        name = await layer.new_channel()
        await layer.send("jobs", HELLO)
        assert await soon(layer.receive("jobs")) == HELLO
        made = provider.made
        assert made >= 2  # the link and the pop
        waiting = asyncio.create_task(layer.receive(name))
        await until(lambda: layer._reader is not None and layer._reader._confirmed)
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "web", "resetpass")
            client.client_kill_filter(_type="normal", skipme=True)
        assert await soon(waiting) == {"type": "back"}
        assert provider.made > made
        await soon(asyncio.to_thread(layer.send_sync, "jobs", HELLO))
        await soon(asyncio.to_thread(layer.close_sync))


def test_certificates_are_not_checked_when_the_settings_say_so() -> None:
    layer = RedisChannelLayer(hosts=[{"address": "rediss://h", "ssl_cert_reqs": None}])
    (place,) = layer.shards.places
    assert place.tls.verify_mode == ssl.CERT_NONE  # type: ignore[union-attr]
