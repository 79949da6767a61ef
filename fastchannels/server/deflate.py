"""The negotiation of permessage-deflate (RFC 7692) for the server side, without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: RFC 6455 section 9.1: a parameter's value is a token, which may be quoted.
_PARAMETER: Final = re.compile(
    rb'[ \t]*(%b)[ \t]*(?:=[ \t]*(?:(%b)|"(%b)")[ \t]*)?' % (_TOKEN, _TOKEN, _TOKEN)
).fullmatch
_BITS: Final = re.compile(rb"8|9|1[0-5]").fullmatch

#: zlib has no window of 8 bits for raw data; an offer that asks for one is declined.
_LEAST_BITS: Final = 9
_MOST_BITS: Final = 15


class Agreement(NamedTuple):
    """What both ends use: messages of the server come from a window of ``bits``, and no message refers to another."""

    bits: int
    response: bytes


def negotiate(offers: Iterable[bytes]) -> Agreement | None:
    """The first of ``offers``, the elements of Sec-WebSocket-Extensions, that can be used, or None.

    Both ends start each message anew ("no context takeover"), offered or not (section 7.1.1): then a socket needs no
    memory for its compression, and a message to many sockets is compressed once.
    """
    for offer in offers:
        bits = _window(offer)
        if bits is not None:
            response = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            if bits != _MOST_BITS:
                response += b"; server_max_window_bits=%d" % bits
            return Agreement(bits, response)
    return None


def _window(offer: bytes) -> int | None:
    """Bits of the server's window that ``offer`` asks for; None when the offer must be declined (section 7.1)."""
    name, *parameters = offer.split(b";")
    if name.strip(b" \t").lower() != b"permessage-deflate":
        return None
    seen: set[bytes] = set()
    bits = _MOST_BITS
    for parameter in parameters:
        match = _PARAMETER(parameter)
        if match is None:
            return None
        key, value = match[1], match[2] or match[3]
        if key in seen:
            return None
        seen.add(key)
        if key in (b"server_no_context_takeover", b"client_no_context_takeover"):
            if value is not None:
                return None
        elif key == b"client_max_window_bits":
            if value is not None and not _BITS(value):
                return None  # any window of the client's can be read, so its size is not limited further
        elif key == b"server_max_window_bits":
            if value is None or not _BITS(value) or int(value) < _LEAST_BITS:
                return None
            bits = int(value)
        else:
            return None
    return bits
