"""How a message becomes bytes when that is not MessagePack: CONFIG ``serializer_format``.

A format of one's own is a class with ``serialize(message) -> bytes`` and ``deserialize(bytes) -> message``, or a
subclass of :class:`BaseMessageSerializer`, put into :data:`registry` under a name. It is called with the keywords
``random_prefix_length``, ``expiry`` and ``symmetric_encryption_keys``, as channels_redis calls its own; the layer does
both encryption and telling equal messages apart by itself, so it passes 0 and None.
"""

from __future__ import annotations

import abc
import json
import sys
from typing import Any, Final, Protocol

from fastchannels.exceptions import InvalidChannelLayerError, InvalidMessageError, MessageRangeError

__all__ = ["BaseMessageSerializer", "JSONSerializer", "Serializer", "SerializersRegistry", "registry"]

#: The format of :class:`~fastchannels.layers.codec.Codec` itself.
NATIVE: Final = "msgpack"
#: Dicts and lists inside each other; MessagePack has the same limit.
MAX_DEPTH: Final = 128


class Serializer(Protocol):
    """What a registered class makes."""

    def serialize(self, message: dict[str, Any]) -> bytes:
        """The bytes of ``message``; whatever it raises reaches the sender."""

    def deserialize(self, message: bytes) -> dict[str, Any]:
        """The message of :meth:`serialize`; whatever it raises drops the message, counted and logged (D-42)."""


class BaseMessageSerializer(abc.ABC):
    """A serializer of two methods. The keywords are those that the registry passes."""

    def __init__(
        self, *, symmetric_encryption_keys: Any = None, random_prefix_length: int = 0, expiry: float | None = None
    ) -> None:
        self.expiry = expiry

    @abc.abstractmethod
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        """The bytes of ``message``."""

    @abc.abstractmethod
    def from_bytes(self, message: bytes) -> dict[str, Any]:
        """The message of :meth:`as_bytes`."""

    def serialize(self, message: dict[str, Any]) -> bytes:
        """:meth:`as_bytes`."""
        return self.as_bytes(message)

    def deserialize(self, message: bytes) -> dict[str, Any]:
        """:meth:`from_bytes`."""
        return self.from_bytes(message)


class JSONSerializer(BaseMessageSerializer):
    """JSON in UTF-8. It carries no ``bytes``, so it cannot join a protocol server to workers (channel mode)."""

    def as_bytes(self, message: dict[str, Any]) -> bytes:
        """Raises ``InvalidMessageError`` or ``MessageRangeError`` with the path of a value that cannot be carried."""
        check(message)
        return json.dumps(message, separators=(",", ":")).encode("utf-8")

    def from_bytes(self, message: bytes) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(message.decode("utf-8"))
        return decoded


def check(value: Any, path: str = "message", depth: int = 0) -> None:
    """Pass what JSON carries unchanged, but for a tuple that arrives as a list.

    ``json`` would make text of a key that is a number, and integers beyond 64 bits fit no other format (D-25).
    """
    if value is None or isinstance(value, (str, float, bool)):
        return
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise MessageRangeError(f"{path}: {value} cannot be carried (integers have 64 bits)")
        return
    if depth == MAX_DEPTH:
        raise InvalidMessageError(f"{path}: nested deeper than {MAX_DEPTH} cannot be carried")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidMessageError(f"{path}: the key {key!r} cannot be carried (keys are str)")
            check(item, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check(item, f"{path}[{index}]", depth + 1)
    else:
        hint = f"; serializer_format {NATIVE!r} carries it" if isinstance(value, (bytes, bytearray, memoryview)) else ""
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise InvalidMessageError(f"{path}: {name} cannot be carried by JSON{hint}")


class SerializersRegistry:
    """Classes of serializers by format."""

    def __init__(self) -> None:
        self._classes: dict[str, Any] = {"json": JSONSerializer}

    def register_serializer(self, name: str, serializer_class: Any) -> None:
        """Make ``name`` a ``serializer_format``. Raises ``InvalidChannelLayerError`` for a class that is none."""
        if not isinstance(name, str) or not name:
            raise InvalidChannelLayerError(f"the name of a serializer is a str, not {name!r}")
        if name == NATIVE:
            raise InvalidChannelLayerError(f"the serializer {NATIVE!r} is built in: choose another name")
        for method in ("serialize", "deserialize"):
            if not callable(getattr(serializer_class, method, None)):
                raise InvalidChannelLayerError(
                    f"the serializer {name!r}: {serializer_class!r} has no method {method}(); "
                    "define serialize() and deserialize(), or derive from BaseMessageSerializer"
                )
        self._classes[name] = serializer_class

    def names(self) -> list[str]:
        """Every known format, the built-in one included."""
        return sorted({NATIVE, *self._classes})

    def get_serializer(self, name: str, **keywords: Any) -> Serializer:
        """A serializer of a registered format other than the native one; ``InvalidChannelLayerError`` for none."""
        made: Serializer
        if isinstance(name, str) and name in self._classes:
            made = self._classes[name](**keywords)
            return made
        theirs = _theirs(name, keywords)
        if theirs is None:
            raise InvalidChannelLayerError(
                f"CONFIG option serializer_format={name!r}: it is {', '.join(map(repr, self.names()))}, or one that "
                "fastchannels.layers.serializers.registry.register_serializer(name, class) made known"
            )
        return theirs


def _theirs(name: Any, keywords: dict[str, Any]) -> Serializer | None:
    """A format that the project registered with channels_redis, when it is there: settings stay as they are."""
    module = sys.modules.get("channels_redis.serializers")
    if module is None:
        return None
    try:
        made: Serializer = module.registry.get_serializer(name, **keywords)
    except (KeyError, TypeError):
        return None
    return made


registry: Final = SerializersRegistry()
