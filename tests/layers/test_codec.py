"""The codec: what a layer accepts as a message, and what it says about the rest."""

from __future__ import annotations

import collections
import time

import msgpack
import pytest

from fastchannels import conf, envelope
from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageRangeError, MessageTooLarge
from fastchannels.layers.codec import Codec, make_codec

codec = Codec()


def test_round_trip():
    message = {"type": "t", "bytes": b"\x00", "nested": {"list": [1, 2.5, None, True]}, "tuple": (1,), "text": "é😀"}
    assert codec.decode(codec.encode(message)) == {**message, "tuple": [1]}


def test_a_megabyte_passes():
    message = {"text": "x" * 1_000_000, "bytes": bytes(1_000_000)}
    assert codec.decode(codec.encode(message)) == message


def test_channels_redis_reads_the_bytes():
    message = {"type": "chat.message", "n": 1}
    assert msgpack.unpackb(codec.encode(message)) == message
    assert codec.decode(msgpack.packb(message)) == message


@pytest.mark.parametrize("message", [[("a", 1)], "text", None, b"bytes", 7, {1, 2}])
def test_only_a_dict_is_a_message(message):
    with pytest.raises(InvalidMessageError) as caught:
        codec.encode(message)
    assert str(caught.value) == f"a message is a dict with str keys, not {type(message).__name__}"


def test_a_subclass_of_dict_is_a_message():
    assert codec.decode(codec.encode(collections.OrderedDict(a=1))) == {"a": 1}


def test_the_reserved_key():
    with pytest.raises(InvalidMessageError, match="the key '__asgi_channel__' is reserved"):
        codec.encode({"type": "x", "__asgi_channel__": "a!b"})
    assert codec.decode(codec.encode({"inner": {"__asgi_channel__": 1}})) == {"inner": {"__asgi_channel__": 1}}


def test_the_envelope_passes():
    message = {
        envelope.ACK: 3,
        envelope.REPLIES: [{"text": "x"}],
        envelope.SESSION: b"\x00",
        envelope.EVENT: 4,
        envelope.BUSY: 5,
    }
    assert codec.decode(codec.encode(message)) == message


def test_errors_carry_the_path():
    with pytest.raises(InvalidMessageError, match=r"^message\['a'\]\[0\]: object cannot be carried"):
        codec.encode({"a": [object()]})
    with pytest.raises(MessageRangeError, match=r"^message\['a'\]: 18446744073709551616 cannot"):
        codec.encode({"a": 2**64})


def test_too_large_names_size_limit_and_option():
    with pytest.raises(MessageTooLarge) as caught:
        Codec(100).encode({"text": "x" * 200})
    assert str(caught.value) == (
        "message['text']: up to here the encoded message takes 208 bytes, more than the limit of 100: "
        "send less, or raise 'max_message_size' in CHANNEL_LAYERS CONFIG (bytes, 0: no limit)"
    )
    assert caught.value.__suppress_context__


def test_the_limit_counts_encoded_bytes():
    message = {"text": "é" * 100}
    size = len(msgpack.packb(message))
    assert Codec(size).encode(message)
    with pytest.raises(MessageTooLarge):
        Codec(size - 1).encode(message)


def test_default_and_no_limit():
    assert codec.max_message_size == conf.MAX_MESSAGE_SIZE == 16 * 1024 * 1024
    large = {"bytes": bytes(conf.MAX_MESSAGE_SIZE)}
    with pytest.raises(MessageTooLarge):
        codec.encode(large)
    assert len(Codec(0).encode(large)) > conf.MAX_MESSAGE_SIZE


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x81\xa1a", b"\x80\x80", b"\x81\xd4\x01\x01\x01"])
def test_undecodable_bytes(payload):
    with pytest.raises(InvalidPayloadError, match=r"^byte \d+: "):
        codec.decode(payload)


@pytest.mark.parametrize("value", [[1], "text", 7, None])
def test_a_payload_that_is_no_dict(value):
    with pytest.raises(InvalidPayloadError) as caught:
        codec.decode(msgpack.packb(value))
    assert str(caught.value) == f"the payload holds {type(value).__name__}, a message is a dict"


def test_a_copy_is_what_a_reader_gets():
    message = {"tuple": (1, [2])}
    for made in (Codec(), make_codec(symmetric_encryption_keys=["k"]), make_codec(serializer_format="json")):
        copy = made.copy(message)
        assert copy == {"tuple": [1, [2]]}
    with pytest.raises(InvalidMessageError):
        Codec().copy({"a": object()})


def test_the_usual_codec_is_not_wrapped():
    assert type(make_codec()) is type(make_codec(symmetric_encryption_keys=[])) is Codec
    assert type(make_codec(symmetric_encryption_keys=["k"], encrypt=False)) is Codec


def test_the_limit_counts_bytes_before_encryption():
    message = {"text": "x" * 90}
    wrapped = make_codec(len(msgpack.packb(message)), symmetric_encryption_keys=["k"])
    assert wrapped.decode(wrapped.encode(message)) == message
    with pytest.raises(MessageTooLarge):
        wrapped.encode({"text": "x" * 91})


def test_a_token_of_expiry_and_some_is_still_good():
    sealed = make_codec(symmetric_encryption_keys=["k"], expiry=5)
    payload = sealed.encode({"a": 1})
    now = time.time()
    sealed._cipher._clock = lambda: now + 15
    assert sealed.decode(payload) == {"a": 1}
    sealed._cipher._clock = lambda: now + 17
    with pytest.raises(InvalidPayloadError, match=r"encrypted 1[67] s ago"):
        sealed.decode(payload)
