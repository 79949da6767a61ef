from __future__ import annotations

import pytest

from fastchannels.layers.redis import wire


def test_entry_round_trip() -> None:
    for name, rest in (("", b""), ("a" * 99, b"\x00\xff"), ("x.y!z", b"payload")):
        body = wire.body(wire.MESSAGE, name, rest)
        stamp = 1_753_000_000_123
        assert wire.parse(stamp.to_bytes(wire.STAMP, "big") + body) == (stamp, wire.MESSAGE, name, rest)
        assert wire.parse(wire.note(wire.ADD, name, rest)) == (0, wire.ADD, name, rest)


def test_golden_bytes() -> None:
    assert wire.body(wire.GROUP, "chat", b"\x80") == b"g\x04chat\x80"
    assert wire.message(wire.GROUP, "chat", b"\x80") == b"\0\0\0\x07g\x04chat\x80"
    assert wire.note(wire.FORGET) == b"\0\0\0\0\0\0x\0"


@pytest.mark.parametrize("junk", [b"", b"1234567", b"\0\0\0\0\0\0m\x05abc", b"\0\0\0\0\0\0m\x01\xff"])
def test_junk_is_a_value_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"inbox entry|ascii"):
        wire.parse(junk)


def test_queue_entry() -> None:
    assert wire.parse_queued(b"\0\0\0\0\x01\x00abc") == (256, b"abc")
    stamp, payload = wire.parse_queued(b"\x01")
    assert (stamp < 1000, payload) == (True, b"")
