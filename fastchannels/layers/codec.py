"""Messages to bytes and back, with the checks that a sender can act on.

The bytes are MessagePack as ``msgpack.packb`` writes it, so that every layer, and channels_redis, can read them; or
what CONFIG ``serializer_format`` and ``symmetric_encryption_keys`` make of a message.
"""

from __future__ import annotations

from typing import Any, Final

from fastchannels import conf
from fastchannels._core.codec import Codec, check_message
from fastchannels.exceptions import (
    InvalidChannelLayerError,
    InvalidPayloadError,
    MessageTooLarge,
)
from fastchannels.layers.crypto import MARGIN, Cipher, check_keys
from fastchannels.layers.serializers import NATIVE, Serializer, registry

__all__ = ["Codec", "WrappedCodec", "make_codec"]

_TOO_LARGE: Final = "send less, or raise 'max_message_size' in CHANNEL_LAYERS CONFIG (bytes, 0: no limit)"


class WrappedCodec(Codec):
    """A codec with another serializer than MessagePack, or with encryption, or both.

    ``max_message_size`` counts the bytes before encryption, which adds a third. With a cipher nothing else than its
    tokens is decoded (D-42).
    """

    __slots__ = ("_cipher", "_serializer")

    def __init__(self, max_message_size: int, serializer: Serializer | None, cipher: Cipher | None) -> None:
        super().__init__(max_message_size)
        self._serializer = serializer
        self._cipher = cipher

    def encode(self, message: dict[str, Any]) -> bytes:
        data = self._serialize(message)
        return data if self._cipher is None else self._cipher.encrypt(data)

    def decode(self, payload: bytes) -> dict[str, Any]:
        return self._deserialize(payload if self._cipher is None else self._cipher.decrypt(payload))

    def copy(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._deserialize(self._serialize(message))

    def _serialize(self, message: dict[str, Any]) -> bytes:
        if self._serializer is None:
            return super().encode(message)
        check_message(message)
        data = self._serializer.serialize(message)
        if not isinstance(data, bytes):
            raise InvalidChannelLayerError(
                f"serialize() of {type(self._serializer).__qualname__} gave {type(data).__qualname__}, not bytes: "
                "mend the class that is registered for 'serializer_format' in CHANNEL_LAYERS CONFIG"
            )
        if self.max_message_size and len(data) > self.max_message_size:
            raise MessageTooLarge(
                f"the encoded message takes {len(data)} bytes, more than the limit of {self.max_message_size}: "
                f"{_TOO_LARGE}"
            )
        return data

    def _deserialize(self, data: bytes) -> dict[str, Any]:
        if self._serializer is None:
            return super().decode(data)
        message = self._serializer.deserialize(data)
        if not isinstance(message, dict):
            raise InvalidPayloadError(f"the payload holds {type(message).__name__}, a message is a dict")
        return message


def make_codec(
    max_message_size: int = conf.MAX_MESSAGE_SIZE,
    serializer_format: str = NATIVE,
    symmetric_encryption_keys: Any = None,
    expiry: float = conf.EXPIRY,
    *,
    encrypt: bool = True,
) -> Codec:
    """The codec of a layer with these options. Raises ``InvalidChannelLayerError`` for a bad one.

    Without ``encrypt`` the keys are only checked: for a layer whose messages never leave the process.
    """
    keys = check_keys(symmetric_encryption_keys)
    cipher = Cipher(keys, expiry + MARGIN) if keys and encrypt else None
    serializer = None
    if serializer_format != NATIVE:
        serializer = registry.get_serializer(
            serializer_format, random_prefix_length=0, expiry=expiry, symmetric_encryption_keys=None
        )
    if serializer is None and cipher is None:
        return Codec(max_message_size)
    return WrappedCodec(max_message_size, serializer, cipher)
