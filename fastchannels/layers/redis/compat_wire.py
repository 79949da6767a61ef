"""The keys and bytes of channels_redis (its class ``RedisChannelLayer``), as of 4.3.

=============================  ==========================================================================
``<prefix><channel>``          sorted set; of a process-local name only the part up to its ``!`` is in it
``<prefix>:group:<group>``     sorted set of channel names, scored by the time of the last add
=============================  ==========================================================================

A member of a channel's set is a few random bytes, which keep equal messages apart, and the serialized message, which
may be encrypted. Its score is the time of its sending in seconds. In the message the key ``__asgi_channel__`` holds the
process-local name that it is for, or the list of the names behind this key that are in a group.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Final

from fastchannels import conf
from fastchannels._core.msgpack import pack
from fastchannels._core.names import local_part
from fastchannels.envelope import ASGI_CHANNEL
from fastchannels.exceptions import InvalidChannelLayerError, InvalidPayloadError
from fastchannels.layers.codec import Codec, make_codec
from fastchannels.layers.crypto import MARGIN, Cipher, check_keys
from fastchannels.layers.options import whole
from fastchannels.layers.serializers import NATIVE, registry

#: Random bytes before each message.
RANDOM_PREFIX: Final = 12

_GROUP: Final = ":group:"
#: What channels_redis appends to a channel's key for messages that it popped and has not confirmed.
_IN_FLIGHT: Final = "$inflight"
_CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9._-]+(?:[!?][A-Za-z0-9._-]*)?")

_PACKED_KEY: Final = pack(ASGI_CHANNEL)
_JSON_KEY: Final = json.dumps(ASGI_CHANNEL).encode() + b":"


class CompatKeys:
    """The names of the keys under one prefix, which is put before them without a separator."""

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise InvalidChannelLayerError(f"CONFIG option prefix={prefix!r}: a str")
        self._prefix = prefix
        self._group = prefix + _GROUP

    def channel(self, channel: str) -> str:
        return self._prefix + local_part(channel)

    def group(self, group: str) -> str:
        return self._group + group

    def name(self, key: str) -> str:
        """The channel, or the part up to ``!``, behind a key of :meth:`channel`."""
        return key[len(self._prefix) :]

    def wake(self, loop: str) -> str:
        """A key of ours that no channel can have; a token there ends the blocking pop of an event loop."""
        return f"{self._prefix}|w|{loop}"

    def presence(self, process: str) -> str:
        """A key of ours that tells ``process`` whether Redis still has what it wrote."""
        return f"{self._prefix}|p|{process}"

    def pattern(self) -> str:
        """A glob for ``SCAN``. It also matches keys that are not ours: see :meth:`is_ours`."""
        return "".join("\\" + letter if letter in "*?[]^-\\" else letter for letter in self._prefix) + "*"

    def is_ours(self, key: str) -> bool:
        """Whether ``key`` can be one of this prefix. With no separator, one of a longer prefix may look like it."""
        if key.startswith(self._group):
            return True
        name = self.name(key).removesuffix(_IN_FLIGHT)
        return len(name) < conf.MAX_NAME_LENGTH and _CHANNEL_NAME.fullmatch(name) is not None


class CompatWire:
    """Messages to the bytes of a member and back. Holds no state but its options; any thread may use it.

    ``codec`` writes ``serializer_format`` and nothing more: a *body* is neither encrypted nor addressed.
    """

    def __init__(
        self, codec: Codec, serializer_format: str, symmetric_encryption_keys: Any, expiry: float,
        random_prefix_length: int,
    ) -> None:  # fmt: skip
        keys = check_keys(symmetric_encryption_keys)
        self._random = whole("random_prefix_length", random_prefix_length, 0)
        self._cipher = Cipher(keys, expiry + MARGIN) if keys else None
        self._format = serializer_format
        self._serializer = None
        if serializer_format not in (NATIVE, "json"):
            self._serializer = registry.get_serializer(
                serializer_format, random_prefix_length=0, expiry=expiry, symmetric_encryption_keys=None
            )
        self.codec = codec
        #: The same without a limit, for what others sent.
        self._bare = make_codec(0, serializer_format)

    def address(self, body: bytes, target: str | list[str]) -> bytes:
        """``body`` with the name, or the names, that it is for. Raises ``InvalidPayloadError`` when it is no body."""
        if self._serializer is not None:
            return self._serializer.serialize({**self._serializer.deserialize(body), ASGI_CHANNEL: target})
        if self._format == NATIVE:
            return _grown_map(body) + _PACKED_KEY + pack(target)
        if body[:1] != b"{" or body[-1:] != b"}":
            raise InvalidPayloadError("the body is no JSON object")
        comma = b"" if body == b"{}" else b","
        return body[:-1] + comma + _JSON_KEY + json.dumps(target).encode("ascii") + b"}"

    def seal(self, body: bytes) -> bytes:
        """A member with ``body`` in it."""
        return os.urandom(self._random) + (body if self._cipher is None else self._cipher.encrypt(body))

    def open(self, member: bytes) -> bytes:
        """The body of ``member``. Raises ``InvalidPayloadError`` when it cannot be decrypted or is too old."""
        sealed = member[self._random :]
        return sealed if self._cipher is None else self._cipher.decrypt(sealed)

    def split(self, body: bytes) -> tuple[str | list[str], bytes]:
        """The name that ``body`` is for, a list when it was sent to a group, and the body.

        It is without the names when there are several: each reader decodes it, and each would decode all names.
        Raises a ``ValueError`` for bytes that are no message, or name none.
        """
        message = self.codec.decode(body)
        target = message.pop(ASGI_CHANNEL, None)
        if isinstance(target, str):
            return target, body
        if not isinstance(target, list) or not all(isinstance(name, str) for name in target):
            raise InvalidPayloadError(f"a message for a process-local channel has {target!r:.80} as its {ASGI_CHANNEL}")
        return target, body if len(target) == 1 else self._bare.encode(message)


def _grown_map(body: bytes) -> bytes:
    """A MessagePack map with room for one more pair at its end (the head counts the pairs)."""
    head = body[0] if body else 0
    if head & 0xF0 == 0x80:
        size, rest = head & 0x0F, body[1:]
    elif head == 0xDE and len(body) >= 3:
        size, rest = int.from_bytes(body[1:3], "big"), body[3:]
    elif head == 0xDF and len(body) >= 5:
        size, rest = int.from_bytes(body[1:5], "big"), body[5:]
    else:
        raise InvalidPayloadError("the body is no MessagePack map")
    size += 1
    if size <= 0x0F:
        return bytes((0x80 | size,)) + rest
    if size <= 0xFFFF:
        return b"\xde" + size.to_bytes(2, "big") + rest
    return b"\xdf" + size.to_bytes(4, "big") + rest
