"""The bytes of one entry in a list.

A queue entry is ``stamp payload``, an inbox entry ``stamp kind length name rest``:

===========  ======  ====================================================================================
``stamp``    6       milliseconds of the store's clock, big endian; the script writes it (D-07)
``kind``     1       one of the constants below
``length``   1       of the name; a name is ASCII and shorter than 100
``name``             the channel, for a group message the group, for the other kinds see below
``rest``             the payload, or what the kind says
===========  ======  ====================================================================================

A sender writes everything after the stamp; the script puts the stamp before it. Notes that no script sees
(:func:`note`) carry a stamp of zero.
"""

from __future__ import annotations

from typing import Final

from fastchannels._core.entries import body, parse

__all__ = ["body", "note", "parse", "parse_queued"]

STAMP: Final = 6

MESSAGE: Final = ord("m")  #: from another process
OWN: Final = ord("o")  #: from the process that owns the inbox
GROUP: Final = ord("g")  #: to all members here
ADD: Final = ord("a")  #: name: channel; rest: ``<group> <counter>``, the counter is the script's
DISCARD: Final = ord("d")  #: name: channel; rest: the group
FORGET: Final = ord("x")  #: the layer was flushed
FENCE: Final = ord("n")  #: rest: a token; all that was pushed before it has been read

_NO_STAMP: Final = bytes(STAMP)


def note(kind: int, name: str = "", rest: bytes = b"") -> bytes:
    """A whole inbox entry that has no age."""
    return _NO_STAMP + body(kind, name, rest)


def parse_queued(entry: bytes) -> tuple[int, bytes]:
    """``(stamp, payload)`` of a queue entry. One that is too short to be ours reads as expired long ago."""
    return int.from_bytes(entry[:STAMP], "big"), entry[STAMP:]
