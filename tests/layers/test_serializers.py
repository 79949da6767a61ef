"""Formats other than MessagePack: what they carry, and how one's own is registered."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError, InvalidMessageError, MessageRangeError, MessageTooLarge
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.layers.serializers import BaseMessageSerializer, JSONSerializer, SerializersRegistry, registry


class Reversed:
    """A class that knows nothing of ours, with the keywords that channels_redis passes."""

    def __init__(self, random_prefix_length: int, expiry: float, symmetric_encryption_keys: Any) -> None:
        self.made_with = (random_prefix_length, expiry, symmetric_encryption_keys)

    def serialize(self, message: dict[str, Any]) -> bytes:
        return JSONSerializer().as_bytes(message)[::-1]

    def deserialize(self, message: bytes) -> dict[str, Any]:
        return JSONSerializer().from_bytes(message[::-1])


class Repr(BaseMessageSerializer):
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        return repr(message).encode()

    def from_bytes(self, message: bytes) -> dict[str, Any]:
        return {"text": message.decode()}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> SerializersRegistry:
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    return registry


def test_json_is_what_any_reader_of_json_reads() -> None:
    layer = InMemoryChannelLayer(serializer_format="json")
    message = {"type": "t", "é": ["☃", 1, 2.5, None, True, {"a": []}], "tuple": (1,)}
    payload = layer.serialize(message)
    assert payload.startswith(b'{"type":"t",')
    assert layer.deserialize(payload) == {**message, "tuple": [1]}
    assert layer.deserialize(layer.serialize({"nan": float("nan")}))["nan"] != 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"x", r"message\['a'\]\[0\]: bytes cannot be carried by JSON; serializer_format 'msgpack' carries it"),
        ({1: 2}, r"message\['a'\]\[0\]: the key 1 cannot be carried"),
        ({1}, r"message\['a'\]\[0\]: set cannot be carried by JSON$"),
        (Repr, r"message\['a'\]\[0\]: abc.ABCMeta cannot"),
    ],
)
def test_json_says_what_it_cannot_carry(value: Any, said: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"^{said}"):
        JSONSerializer().as_bytes({"a": [value]})


def test_json_has_the_limits_of_the_other_format() -> None:
    serializer = JSONSerializer()
    for number in (2**64 - 1, -(2**63)):
        assert serializer.from_bytes(serializer.as_bytes({"n": number})) == {"n": number}
    for number in (2**64, -(2**63) - 1):
        with pytest.raises(MessageRangeError, match=r"^message\['n'\]: "):
            serializer.as_bytes({"n": number})
    nested: Any = {}
    for _ in range(127):
        nested = {"a": nested}
    assert serializer.from_bytes(serializer.as_bytes(nested)) == nested
    with pytest.raises(InvalidMessageError, match="nested deeper than 128"):
        serializer.as_bytes({"a": nested})
    with pytest.raises(MessageTooLarge, match=r"takes 208 bytes, more than the limit of 100: .*'max_message_size'"):
        InMemoryChannelLayer(serializer_format="json", max_message_size=100).serialize({"a": "x" * 200})
    assert InMemoryChannelLayer(serializer_format="json", max_message_size=0).serialize({"a": 1}) == b'{"a":1}'


def test_a_registered_class(known: SerializersRegistry) -> None:
    known.register_serializer("reversed", Reversed)
    known.register_serializer("repr", Repr)
    layer = InMemoryChannelLayer(serializer_format="reversed", expiry=7)
    assert layer.codec._serializer.made_with == (0, 7, None)  # type: ignore[attr-defined]
    assert layer.serialize({"a": 1}) == b'}1:"a"{'
    assert layer.deserialize(b'}1:"a"{') == {"a": 1}
    assert InMemoryChannelLayer(serializer_format="repr").serialize({"a": b""}) == b"{'a': b''}"
    for bad in ([], {"__asgi_channel__": 1}):
        with pytest.raises(InvalidMessageError):
            layer.serialize(bad)  # type: ignore[arg-type]


def test_a_class_that_gives_no_bytes(known: SerializersRegistry) -> None:
    class Text(Reversed):
        def serialize(self, message: dict[str, Any]) -> Any:
            return str(message)

        def deserialize(self, message: bytes) -> Any:
            return [message]

    known.register_serializer("text", Text)
    layer = InMemoryChannelLayer(serializer_format="text")
    with pytest.raises(InvalidChannelLayerError, match="Text gave str, not bytes"):
        layer.serialize({})
    with pytest.raises(ValueError, match="holds list"):
        layer.deserialize(b"")


def test_what_cannot_be_registered(known: SerializersRegistry) -> None:
    with pytest.raises(InvalidChannelLayerError, match="'msgpack' is built in"):
        known.register_serializer("msgpack", Repr)
    with pytest.raises(InvalidChannelLayerError, match=r"'x': <class 'int'> has no method serialize\(\)"):
        known.register_serializer("x", int)
    with pytest.raises(InvalidChannelLayerError, match="not ''"):
        known.register_serializer("", Repr)
    assert known.names() == ["json", "msgpack"]


@pytest.mark.parametrize("name", ["yaml", None, ["json"]])
def test_an_unknown_format_names_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"serializer_format=.*: it is 'json', 'msgpack', or one that"):
        InMemoryChannelLayer(serializer_format=name)


def test_a_format_that_is_registered_with_channels_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    class Registry:
        def get_serializer(self, name: str, **keywords: Any) -> Reversed:
            return {"theirs": Reversed}[name](**keywords)

    module = types.ModuleType("channels_redis.serializers")
    module.registry = Registry()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "channels_redis.serializers", module)
    assert InMemoryChannelLayer(serializer_format="theirs").serialize({"a": 1}) == b'}1:"a"{'
    with pytest.raises(InvalidChannelLayerError, match="serializer_format='yaml'"):
        InMemoryChannelLayer(serializer_format="yaml")
