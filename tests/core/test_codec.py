from __future__ import annotations

import pytest

from fastchannels import conf
from fastchannels._core.codec import Codec, check_message
from fastchannels._core.msgpack import pack
from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageRangeError, MessageTooLarge


def test_round_trip_is_messagepack() -> None:
    message = {"type": "chat.message", "n": [1, (2, 3)], "more": {"b": b"\xff", "none": None}}
    codec = Codec()
    assert codec.max_message_size == conf.MAX_MESSAGE_SIZE
    assert codec.encode(message) == pack(message)
    read = codec.decode(codec.encode(message))
    assert read == codec.copy(message) == {**message, "n": [1, [2, 3]]}
    assert read["more"] is not message["more"]


def test_what_is_refused() -> None:
    codec = Codec(20)
    for bad in ([], None, "text", {"__asgi_channel__": 1}, {1: 2}, {"a": object()}):
        with pytest.raises(InvalidMessageError):
            codec.encode(bad)  # type: ignore[arg-type]
    with pytest.raises(MessageRangeError):
        codec.encode({"n": 2**64})
    with pytest.raises(MessageTooLarge, match="max_message_size"):
        codec.encode({"text": "x" * 20})
    for junk in (b"", b"\xc1", pack([1]), pack({"a": 1}) + b"x"):
        with pytest.raises(InvalidPayloadError):
            codec.decode(junk)


def test_check_message() -> None:
    check_message({"a": object()})
    with pytest.raises(InvalidMessageError, match="not list"):
        check_message([])
    with pytest.raises(InvalidMessageError, match="'__asgi_channel__' is reserved"):
        check_message({"__asgi_channel__": 1})
