"""Messages that only the holders of a key can read: CONFIG ``symmetric_encryption_keys``.

A message becomes a Fernet token (AES-128-CBC with HMAC-SHA256, the time of its making inside). The key of the token is
derived as channels_redis does it, so that both read each other's.
"""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastchannels.exceptions import InvalidChannelLayerError, InvalidPayloadError

OPTION: Final = "symmetric_encryption_keys"
#: Seconds beyond ``expiry`` that a token is good for: clocks differ, and a message may be read in its last moment.
MARGIN: Final = 10


def check_keys(keys: Any) -> list[bytes]:
    """The keys of CONFIG as bytes; none for None and for an empty list.

    Raises ``InvalidChannelLayerError`` for anything but a list of ``str`` or ``bytes``. No text shows a key.
    """
    if keys is None:
        return []
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Sequence):
        raise InvalidChannelLayerError(
            f"CONFIG option {OPTION} is a {type(keys).__name__}: give a list, its first key encrypts, each one decrypts"
        )
    for index, key in enumerate(keys):
        if not isinstance(key, (str, bytes)) or not key:
            kind = type(key).__name__ if key or not isinstance(key, (str, bytes)) else "empty"
            raise InvalidChannelLayerError(f"CONFIG option {OPTION}[{index}] is {kind}: a key is text or bytes")
    return [key.encode("utf-8") if isinstance(key, str) else key for key in keys]


def derive(key: bytes) -> bytes:
    """The key of Fernet that ``key`` of any length stands for."""
    return base64.urlsafe_b64encode(hashlib.sha256(key).digest())


class Cipher:
    """Encrypts with the first key and decrypts with any of them (rotation). Any thread may use it.

    ``lifetime`` is in seconds: a token that is older is refused, so that an old one cannot be played back. Its time is
    that of the sender's clock, and one of more than a minute in the future is refused as well.
    """

    __slots__ = ("_clock", "_fernets", "_lifetime", "_many", "_refused")

    def __init__(self, keys: Sequence[bytes], lifetime: float, clock: Callable[[], float] = time.time) -> None:
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ImportError as error:
            raise InvalidChannelLayerError(
                f"CONFIG option {OPTION} needs the package cryptography: pip install fastchannels[encryption]"
            ) from error
        self._fernets = [Fernet(derive(key)) for key in keys]
        self._many = MultiFernet(self._fernets)
        self._refused = InvalidToken
        self._lifetime = math.ceil(lifetime)
        self._clock = clock

    def encrypt(self, data: bytes) -> bytes:
        """The token of ``data``."""
        return self._many.encrypt_at_time(data, int(self._clock()))

    def decrypt(self, token: bytes) -> bytes:
        """What :meth:`encrypt` was given. Raises ``InvalidPayloadError``, which says what is wrong."""
        now = int(self._clock())
        try:
            return self._many.decrypt_at_time(token, self._lifetime, now)
        except self._refused:
            raise InvalidPayloadError(self._fault(token, now)) from None

    def _fault(self, token: bytes, now: int) -> str:
        for fernet in self._fernets:
            try:
                age = now - fernet.extract_timestamp(token)
            except self._refused:
                continue
            return (
                f"it was encrypted {age} s ago by the clock of its sender, outside of -60 to {self._lifetime} s: "
                "an old message was put back, or the clocks of two machines differ"
            )
        if not token.startswith(b"gAAAA"):
            return f"it is not encrypted, and this layer has {OPTION}"
        return f"it was changed on the way, or none of {OPTION} is the key of its sender"
