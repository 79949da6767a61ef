from __future__ import annotations

import time
from typing import Any

import msgpack
import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.codec import make_codec
from fastchannels.layers.redis.compat_wire import CompatKeys, CompatWire

#: What channels_redis writes, by its reference.
GOLDEN = {
    "83a474797065ac636861742e6d657373616765a474657874a26869a16e01": {"type": "chat.message", "text": "hi", "n": 1},
    "84a162c40200ffa166cb3ff8000000000000a16c9301c0c3a174920102": {
        "b": b"\x00\xff", "f": 1.5, "l": [1, None, True], "t": (1, 2),
    },
}  # fmt: skip


def make(serializer_format: str = "msgpack", keys: Any = None, random_prefix_length: Any = 12) -> CompatWire:
    return CompatWire(make_codec(0, serializer_format), serializer_format, keys, 60, random_prefix_length)


def test_keys() -> None:
    keys = CompatKeys("asgi")
    assert keys.channel("jobs") == "asgijobs"
    assert keys.channel("specific.0a!1b") == "asgispecific.0a!"
    assert keys.name("asgispecific.0a!") == "specific.0a!"
    assert keys.group("g") == "asgi:group:g"
    assert not keys.is_ours(keys.wake("0a.1"))
    assert not keys.is_ours(keys.presence("0a"))
    assert CompatKeys("a*[b").pattern() == "a\\*\\[b*"
    with pytest.raises(InvalidChannelLayerError, match="prefix"):
        CompatKeys(b"asgi")  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["jobs", "a.0a!", "body?x", "jobs$inflight", "a.0a!$inflight", ":group:g"])
def test_flush_takes(key: str) -> None:
    assert CompatKeys("asgi").is_ours("asgi" + key)


@pytest.mark.parametrize("key", ["", "|q|jobs", ":stats", "two words", "x" * 100, "jobs$other"])
def test_flush_leaves(key: str) -> None:
    assert not CompatKeys("asgi").is_ours("asgi" + key)


@pytest.mark.parametrize("golden", GOLDEN)
def test_golden_bytes(golden: str) -> None:
    member = make().seal(make().codec.encode(GOLDEN[golden]))
    assert member[12:].hex() == golden
    assert make(random_prefix_length=0).seal(bytes.fromhex(golden)).hex() == golden


def test_equal_messages_differ() -> None:
    assert make().seal(b"\x80") != make().seal(b"\x80")


@pytest.mark.parametrize("pairs", [0, 1, 14, 15, 16, 65534, 65535, 65536])
@pytest.mark.parametrize("target", ["a!b", ["a!b", "a!c"]])
def test_address_writes_what_msgpack_does(pairs: int, target: Any) -> None:
    message = {f"k{n}": n for n in range(pairs)}
    addressed = make().address(make().codec.encode(message), target)
    assert addressed == msgpack.packb({**message, "__asgi_channel__": target})
    split, body = make().split(addressed)
    assert split == target
    assert body == (addressed if isinstance(target, str) else msgpack.packb(message))


@pytest.mark.parametrize("serializer_format", ["msgpack", "json"])
@pytest.mark.parametrize("keys", [None, ["k1"]])
@pytest.mark.parametrize("message", [{}, {"a": {"é": [1, None, "}"]}}])
def test_round_trip(serializer_format: str, keys: Any, message: dict[str, Any]) -> None:
    wire = make(serializer_format, keys)
    body = wire.open(wire.seal(wire.address(wire.codec.encode(message), ["a!b"])))
    assert wire.split(body) == (["a!b"], body)
    assert wire.codec.decode(body) == {**message, "__asgi_channel__": ["a!b"]}
    assert wire.split(wire.address(wire.codec.encode(message), ["a!b", "a!c"]))[1] == wire.codec.encode(message)


def test_a_format_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastchannels.layers.serializers import JSONSerializer, registry

    class Turned(JSONSerializer):
        def as_bytes(self, message: dict[str, Any]) -> bytes:
            return super().as_bytes(message)[::-1]

        def from_bytes(self, message: bytes) -> dict[str, Any]:
            return super().from_bytes(message[::-1])

    monkeypatch.setitem(registry._classes, "turned", Turned)
    wire = make("turned")
    body = wire.address(wire.codec.encode({"a": 1}), "a!b")
    assert body.startswith(b"}")
    assert wire.split(body) == ("a!b", body)


def test_rotation_of_keys() -> None:
    old, new = make(keys=["k1"]), make(keys=["k2", "k1"])
    assert new.open(old.seal(b"\x80")) == b"\x80"
    with pytest.raises(ValueError, match="key of its sender"):
        old.open(new.seal(b"\x80"))
    with pytest.raises(ValueError, match="not encrypted"):
        new.open(make().seal(b"\x80"))


def test_old_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = make(keys=["k1"])
    sealed = wire.seal(b"\x80")
    begun = time.time()
    for later, good in ((69, True), (72, False)):
        monkeypatch.setattr(wire._cipher, "_clock", lambda now=begun + later: now)
        if good:
            assert wire.open(sealed) == b"\x80"
        else:
            with pytest.raises(ValueError, match="ago"):
                wire.open(sealed)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01", b"\x80\x80", b"\x81\xb0__asgi_channel__\x01", b"\x80"])
def test_bodies_without_a_target(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        make().split(body)


@pytest.mark.parametrize(("serializer_format", "body"), [("msgpack", b""), ("msgpack", b"\x93"), ("json", b"[]")])
def test_what_cannot_be_addressed(serializer_format: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="the body is no"):
        make(serializer_format).address(body, "a!b")


def test_options() -> None:
    for length in (-1, True, "12", 1.5):
        with pytest.raises(InvalidChannelLayerError, match="random_prefix_length"):
            make(random_prefix_length=length)
    with pytest.raises(InvalidChannelLayerError, match="serializer_format"):
        make("xml")
    with pytest.raises(InvalidChannelLayerError, match="symmetric_encryption_keys"):
        make(keys="secret")
