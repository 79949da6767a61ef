"""Messages to bytes and back, with the checks that a sender can act on.

The bytes are MessagePack as ``msgpack.packb`` writes it, so that every layer, and channels_redis, can read them.
"""

from __future__ import annotations

from typing import Any, Final

from fastchannels import conf
from fastchannels._core.msgpack import pack, unpack
from fastchannels.envelope import ASGI_CHANNEL
from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageTooLarge

__all__ = ["Codec"]


class Codec:
    """Encodes and decodes the messages of one layer. Holds no state but its limit; any thread may use it.

    ``max_message_size`` is in bytes of the encoded message; 0 means no limit (D-29).
    """

    __slots__ = ("max_message_size",)

    def __init__(self, max_message_size: int = conf.MAX_MESSAGE_SIZE) -> None:
        self.max_message_size: Final = max_message_size

    def encode(self, message: dict[str, Any]) -> bytes:
        """The bytes of ``message``, which later changes of the dict do not touch.

        Raises ``InvalidMessageError`` (not a dict, a reserved key, or a value that cannot be carried, with its path),
        ``MessageRangeError`` (an integer beyond 64 bits, D-25) and ``MessageTooLarge``.
        """
        if not isinstance(message, dict):
            raise InvalidMessageError(f"a message is a dict with str keys, not {type(message).__qualname__}")
        if ASGI_CHANNEL in message:
            raise InvalidMessageError(f"the key {ASGI_CHANNEL!r} is reserved: rename it")
        try:
            return pack(message, self.max_message_size)
        except MessageTooLarge as error:
            raise MessageTooLarge(
                f"{error}: send less, or raise 'max_message_size' in CHANNEL_LAYERS CONFIG (bytes, 0: no limit)"
            ) from None

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The message that :meth:`encode` made ``payload`` from, as a new dict. Raises ``InvalidPayloadError``."""
        message = unpack(payload)
        if not isinstance(message, dict):
            raise InvalidPayloadError(f"the payload holds {type(message).__qualname__}, a message is a dict")
        return message
