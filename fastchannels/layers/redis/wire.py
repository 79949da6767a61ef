"""The bytes of one entry in a list.

A queue entry is ``stamp payload``. An inbox holds notes, ``stamp kind length name rest``, and batches of messages:
``stamp "b" 0 count``, then ``size kind length name rest`` for each message.

===========  ======  ====================================================================================
``stamp``    6       milliseconds of the store's clock, big endian; the script writes it (D-07)
``count``    6       of the messages that were put into this inbox before; the script writes it
``size``     4       of what follows it, big endian
``kind``     1       one of the constants below
``length``   1       of the name; a name is ASCII and shorter than 100
``name``             the channel, for a group message the group, for the other kinds see below
``rest``             the payload, or what the kind says
===========  ======  ====================================================================================

A sender writes everything from the kind of a note, or the size of a message, on. A note has no age: its stamp is zero.
"""

from __future__ import annotations

from typing import Final

from fastchannels._core.entries import body, parse, sized

__all__ = ["body", "message", "note", "parse", "parse_queued"]

STAMP: Final = 6

MESSAGE: Final = ord("m")  #: from another process
OWN: Final = ord("o")  #: from the process that owns the inbox
GROUP: Final = ord("g")  #: to all members here
AIMED: Final = ord("G")  #: name: one of the groups; rest: the head of an aim (layers/aim.py) before the payload
ADD: Final = ord("a")  #: name: channel; rest: ``<group> <counter>``, the counter is the script's
DISCARD: Final = ord("d")  #: name: channel; rest: the group
FORGET: Final = ord("x")  #: the layer was flushed
TALLY: Final = ord("t")  #: rest: how many messages were put in so far, in digits
FENCE: Final = ord("n")  #: rest: a token; all that was pushed before it has been read

_NO_STAMP: Final = bytes(STAMP)


def message(kind: int, name: str, payload: bytes) -> bytes:
    """A message of a batch."""
    return sized(body(kind, name, payload))


def note(kind: int, name: str = "", rest: bytes = b"") -> bytes:
    """A whole inbox entry that has no age."""
    return _NO_STAMP + body(kind, name, rest)


def parse_queued(entry: bytes) -> tuple[int, bytes]:
    """``(stamp, payload)`` of a queue entry. One that is too short to be ours reads as expired long ago."""
    return int.from_bytes(entry[:STAMP], "big"), entry[STAMP:]
