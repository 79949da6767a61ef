"""Messages to MessagePack and back, with the checks that a sender can act on."""

from fastchannels._core.msgpack cimport pack

from fastchannels._core.msgpack import unpack
from fastchannels.conf import MAX_MESSAGE_SIZE
from fastchannels.envelope import ASGI_CHANNEL as _ASGI_CHANNEL
from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageTooLarge

cdef Py_ssize_t DEFAULT_SIZE = MAX_MESSAGE_SIZE
cdef str ASGI_CHANNEL = _ASGI_CHANNEL
cdef str TOO_LARGE = "send less, or raise 'max_message_size' in CHANNEL_LAYERS CONFIG (bytes, 0: no limit)"


cdef class Codec:
    """Encodes and decodes the messages of one layer. Holds no state but its limit; any thread may use it.

    ``max_message_size`` is in bytes of the encoded message; 0 means no limit (D-29).
    """

    def __init__(self, Py_ssize_t max_message_size=DEFAULT_SIZE):
        self.max_message_size = max_message_size

    # HOT: benchmarks/layers.py
    cpdef bytes encode(self, message):
        """The bytes of ``message``, which later changes of the dict do not touch.

        Raises ``InvalidMessageError`` (not a dict, a reserved key, or a value that cannot be carried, with its path),
        ``MessageRangeError`` (an integer beyond 64 bits, D-25) and ``MessageTooLarge``.
        """
        check_message(message)
        try:
            return pack(message, self.max_message_size)
        except MessageTooLarge as error:
            raise MessageTooLarge(f"{error}: {TOO_LARGE}") from None

    cpdef dict decode(self, payload):
        """The message that :meth:`encode` made ``payload`` from, as a new dict. Raises ``InvalidPayloadError``."""
        message = unpack(payload)
        if not isinstance(message, dict):
            raise InvalidPayloadError(f"the payload holds {type(message).__qualname__}, a message is a dict")
        return message

    def copy(self, message):
        """``message`` as its reader will get it. Raises what :meth:`encode` raises."""
        return self.decode(self.encode(message))


cpdef int check_message(message) except -1:
    """Pass a dict without a reserved key. Raises ``InvalidMessageError``."""
    if not isinstance(message, dict):
        raise InvalidMessageError(f"a message is a dict with str keys, not {type(message).__qualname__}")
    if ASGI_CHANNEL in message:
        raise InvalidMessageError(f"the key {ASGI_CHANNEL!r} is reserved: rename it")
    return 0
