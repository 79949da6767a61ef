"""Compressed payloads beside Python's zlib."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchannels._core import deflate
from fastchannels.exceptions import UsageError, WebSocketError

RANDOM = random.Random(1)
SAMPLES = [b"", b"a", b"hello " * 40, RANDOM.randbytes(70_000), bytes(3_000_000), b"abc" * 6000]


def plain_inflate(data):
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("sample", SAMPLES, ids=len)
def test_both_ways(sample, bits):
    packed = deflate.compress(sample, bits)
    assert zlib.decompressobj(-bits).decompress(packed + b"\0\0\xff\xff") == sample
    assert deflate.decompress(packed, len(sample)) == sample


@given(st.lists(st.binary(max_size=2000), max_size=4), st.integers(-1, 9), st.integers(9, 15))
def test_what_others_compressed(parts, level, bits):
    packer = zlib.compressobj(level, zlib.DEFLATED, -bits)
    data = b"".join(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts)
    assert deflate.decompress(data[:-4] if parts else b"\0", 8000) == b"".join(parts)


def test_the_examples_of_the_rfc():
    for data in (
        "f248cdc9c90700",
        "000500faff48656c6c6f00",
        "f348cdc9c9070000",
        "f248050000 00ffffcac9c90700",
        "f348cdc9c90700",
    ):
        assert deflate.decompress(bytes.fromhex(data), 5) == b"Hello"
    assert deflate.decompress(b"\0", 0) == b""
    assert deflate.compress(b"") == b"\0"


@given(st.binary(max_size=300))
def test_any_bytes(data):
    try:
        expected = plain_inflate(data)
    except zlib.error:
        expected = None
    if expected is None:
        with pytest.raises(WebSocketError) as caught:
            deflate.decompress(data, 1 << 20)
        assert caught.value.code == 1007
    else:  # zlib stops at a last block, of which there may be several
        with contextlib.suppress(WebSocketError):
            deflate.decompress(data, 1 << 20)


def test_a_bomb_is_met_at_the_limit():
    packed = deflate.compress(bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(WebSocketError) as caught:
            deflate.decompress(packed, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == 1009
    with pytest.raises(WebSocketError):
        deflate.decompress(deflate.compress(b"12345"), 4)


def test_windows_that_there_are_not():
    for bits in (8, 16, -1):
        with pytest.raises(UsageError):
            deflate.compress(b"", bits)
