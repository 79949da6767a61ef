"""pack and unpack against msgpack-python, the golden bytes of channels_redis, and everything they refuse."""

from __future__ import annotations

import collections
import datetime
import enum
import gc
import math
import random
import struct
import sys
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastchannels._core.msgpack import pack, unpack
from fastchannels.exceptions import InvalidMessageError, InvalidPayloadError, MessageRangeError, MessageTooLarge

# Around every boundary between two forms.
INTS = sorted(
    {sign * (2**bits) + less for bits in (0, 5, 7, 8, 15, 16, 31, 32, 63) for less in (-1, 0, 1) for sign in (1, -1)}
    - {-(2**63) - 1}
    | {2**64 - 1, 2**64 - 2}
)
SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 255, 256, 2039, 2040, 2048, 4096, 65535, 65536, 1_000_000]

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
messages = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40)


class Level(enum.IntEnum):
    LOW = 3


class Colour(str, enum.Enum):
    RED = "red"


Point = collections.namedtuple("Point", "x y")


class Ratio(float):
    pass


class Blob(bytes):
    pass


class Rows(list):
    """Shows other items than it stores."""

    def __iter__(self):
        return iter([1, 2, 3])


class Last(dict):
    """As Django's QueryDict: keeps lists, shows their last values."""

    def items(self):
        return [(key, values[-1]) for key, values in super().items()]


# ------------------------------------------------------------------ the same bytes as msgpack


@pytest.mark.parametrize(
    ("message", "golden"),
    [
        (
            {"type": "chat.message", "text": "hi", "n": 1},
            "83a474797065ac636861742e6d657373616765a474657874a26869a16e01",
        ),
        (
            {"b": b"\x00\xff", "f": 1.5, "l": [1, None, True], "t": (1, 2)},
            "84a162c40200ffa166cb3ff8000000000000a16c9301c0c3a174920102",
        ),
    ],
)
def test_golden_bytes(message, golden):
    assert pack(message).hex() == golden
    assert unpack(bytes.fromhex(golden)) == {
        key: list(value) if type(value) is tuple else value for key, value in message.items()
    }


@pytest.mark.parametrize("value", INTS)
def test_integers(value):
    assert pack(value) == msgpack.packb(value)
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("unit", ["x", "é", "€", "😀", b"x"])
def test_sizes_of_text_and_bytes(size, unit):
    value = unit * size
    message = {"before": 1, "value": value, "after": [value, 2]}
    assert pack(message) == msgpack.packb(message)
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 255, 256, 65535, 65536])
def test_sizes_of_containers(size):
    for value in (list(range(size)), {str(i): i for i in range(size)}):
        assert pack(value) == msgpack.packb(value)
        assert unpack(pack(value)) == value
    assert pack(tuple(range(size))) == msgpack.packb(tuple(range(size)))


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW,
        Colour.RED,
        Point(1, [2]),
        Ratio(1.5),
        Blob(b"abc"),
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(bytearray(8)).cast("I"),
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.defaultdict(list, a=[1]),
        Rows(),
        Last(a=[1, 2], b=[3]),
        {Colour.RED: 1},
        {"a": {"b": [{"c": (Level.LOW, {})}]}},
        float("inf"),
        -0.0,
    ],
    ids=repr,
)
def test_subclasses_count_as_what_they_derive_from(value):
    if type(value) is Rows:  # msgpack writes the length of what is stored before the items that are shown
        assert pack(value) == msgpack.packb([1, 2, 3])
    else:
        assert pack(value) == msgpack.packb(value)


def test_an_ordered_dict_keeps_its_own_order():
    ordered = collections.OrderedDict([("a", 1), ("b", 2)])
    ordered.move_to_end("a")
    assert list(unpack(pack(ordered))) == ["b", "a"]


def test_nan_passes():
    assert math.isnan(unpack(pack(math.nan)))
    assert pack(math.nan) == msgpack.packb(math.nan)


@given(messages)
@settings(max_examples=400, deadline=None)
def test_bytes_equal_msgpack_and_come_back(message):
    packed = pack(message)
    assert packed == msgpack.packb(message)
    assert unpack(packed) == message
    assert msgpack.unpackb(packed) == message


def test_the_copy_is_independent():
    message = {"list": [1], "dict": {}}
    packed = pack(message)
    message["list"].append(2)
    assert unpack(packed) == {"list": [1], "dict": {}}
    assert unpack(packed)["list"] is not unpack(packed)["list"]


# ------------------------------------------------------------------ what pack refuses

NOT_CARRIED = (
    "cannot be carried (a message holds None, bool, int, float, str, bytes, list, tuple and dict with str keys)"
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            {"rooms": [0, 1, {"when": datetime.datetime(2016, 5, 1)}]},
            f"message['rooms'][2]['when']: datetime.datetime {NOT_CARRIED}",
        ),
        ({1, 2}, f"message: set {NOT_CARRIED}"),
        ({"a": (1, [object()])}, f"message['a'][1][0]: object {NOT_CARRIED}"),
        ({"a": Last(b=[1 + 2j])}, f"message['a']['b']: complex {NOT_CARRIED}"),
        ({"a": Point(1, range(3))}, f"message['a'][1]: range {NOT_CARRIED}"),
        ({"a": {7: 1}}, "message['a']: the key 7 is of type int, keys must be str"),
        ({None: 1}, "message: the key None is of type NoneType, keys must be str"),
        ({"a": {b"k": 1}}, "message['a']: the key b'k' is of type bytes, keys must be str"),
        (
            {"a": ["x\ud800"]},
            "message['a'][0]: 'x\\ud800' holds half a surrogate pair, which UTF-8 cannot express",
        ),
        (
            {"a": {"\udc00": 1}},
            "message['a']: the key '\\udc00' holds half a surrogate pair, which UTF-8 cannot express",
        ),
        ([memoryview(b"abcd")[::2]], "message[0]: the memoryview is released or not contiguous"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_refused_with_the_path(message, text):
    with pytest.raises(InvalidMessageError) as caught:
        pack(message)
    assert str(caught.value) == text
    assert isinstance(caught.value, (TypeError, ValueError, AssertionError))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**6000, "an integer of 19932 bits"),
    ],
    ids=["above", "below", "huge"],
)
def test_integers_out_of_range(value, shown):
    with pytest.raises(MessageRangeError) as caught:
        pack({"n": [value]})
    assert str(caught.value) == f"message['n'][0]: {shown} cannot be carried (integers go from -2**63 to 2**64-1)"
    assert isinstance(caught.value, OverflowError)


def test_a_released_memoryview():
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(InvalidMessageError, match="released"):
        pack(view)


def nested(depth, container):
    """``depth`` containers inside one another."""
    value = container([])
    for _ in range(depth - 1):
        value = container([value])
    return value


@pytest.mark.parametrize(
    "container",
    [list, tuple, lambda items: dict.fromkeys("k", items[0]) if items else {}, lambda items: Last(k=items or [0])],
    ids=["list", "tuple", "dict", "mapping"],
)
def test_nesting_limit(container):
    pack(nested(128, container))
    with pytest.raises(InvalidMessageError, match="nested deeper than 128 levels"):
        pack(nested(129, container))


def test_a_message_inside_itself():
    message = {"name": "loop"}
    message["self"] = message
    with pytest.raises(InvalidMessageError) as caught:
        pack(message)
    six, two = "['self']" * 6, "['self']" * 2
    assert str(caught.value) == f"message{six}[...]{two}: nested deeper than 128 levels"


def test_long_keys_and_values_are_shortened():
    with pytest.raises(InvalidMessageError) as caught:
        pack({"k" * 1_000_000: "\ud800" * 1_000_000})
    assert len(str(caught.value)) < 300


class Meddler(dict):
    """Runs ``action`` while it is being packed."""

    def __init__(self, action):
        super().__init__(x=1)
        self.action = action

    def items(self):
        self.action()
        return super().items()


@pytest.mark.parametrize(
    "action",
    [
        lambda m: m.update(extra=1),
        lambda m: m.pop("z"),
        lambda m: m.clear(),
        lambda m: m.update({str(i): i for i in range(1000)}),
        lambda m: (m.pop("z"), m.pop("meddler"), m.update(b=2, c=3)),
    ],
    ids=["grow", "shrink", "clear", "resize", "swap"],
)
def test_a_dict_that_changes_while_it_is_packed(action):
    inner = {"a": "x", "meddler": None, "z": [1, 2]}
    inner["meddler"] = Meddler(lambda: action(inner))
    with pytest.raises(InvalidMessageError) as caught:
        pack({"inner": inner})
    assert str(caught.value) == "message['inner']: the dict changed while it was being encoded"


def test_a_dict_whose_entry_is_replaced_while_it_is_packed():
    inner = {"a": "x", "meddler": None, "z": [1, 2]}
    inner["meddler"] = Meddler(lambda: (inner.pop("z"), inner.update(b=[3, 4])))
    # As many pairs as before: some of both states, but a whole value.
    assert unpack(pack({"inner": inner, "after": 1})) == {
        "inner": {"a": "x", "meddler": {"x": 1}, "b": [3, 4]},
        "after": 1,
    }


@pytest.mark.parametrize("action", [lambda m: m.append(1), lambda m: m.clear(), lambda m: m.pop()])
def test_a_list_that_changes_while_it_is_packed(action):
    inner = [1]
    inner.append(Meddler(lambda: action(inner)))
    inner.append("last")
    with pytest.raises(InvalidMessageError) as caught:
        pack({"inner": inner})
    assert str(caught.value) == "message['inner']: the list changed while it was being encoded"


def test_errors_of_a_subclass_pass_through():
    def fail():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        pack({"a": [Meddler(fail)]})


def test_items_that_are_no_pairs():
    class Odd(dict):
        def items(self):
            return [1, 2]

    with pytest.raises(InvalidMessageError, match=r"message\['a'\]: the items\(\) of .*Odd are not pairs"):
        pack({"a": Odd(x=1)})


# ------------------------------------------------------------------ the size limit


@pytest.mark.parametrize(
    "message",
    [{"a": 1}, {"a": "x" * 100, "b": b"y" * 100, "c": list(range(50))}, {"t": "x" * 5000, "n": 1.5}, "é" * 3000],
    ids=["tiny", "small", "large", "text"],
)
def test_the_limit_is_exact(message):
    size = len(msgpack.packb(message))
    assert pack(message, size) == pack(message) == pack(message, 0)
    for limit in {1, 2, size // 2, size - 9, size - 2, size - 1} & set(range(1, size)):
        with pytest.raises(MessageTooLarge, match=f"more than the limit of {limit}$"):
            pack(message, limit)


def test_the_limit_names_the_place():
    with pytest.raises(MessageTooLarge) as caught:
        pack({"small": 1, "body": ["x" * 2000]}, 1000)
    assert str(caught.value) == (
        "message['body'][0]: up to here the encoded message takes 2017 bytes, more than the limit of 1000"
    )


def test_nothing_large_is_built_past_the_limit():
    message = {"parts": [bytes(1_000_000)] * 100}
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLarge):
            pack(message, 3_500_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_a_negative_limit():
    with pytest.raises(ValueError, match="max_size is -1: 0 means no limit"):
        pack({}, -1)


# ------------------------------------------------------------------ unpack


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview], ids=["bytes", "bytearray", "memoryview"])
def test_any_buffer(view):
    assert unpack(view(pack({"a": [1]}))) == {"a": [1]}


@pytest.mark.parametrize("data", ["text", None, 7])
def test_not_a_buffer(data):
    with pytest.raises(TypeError, match="bytes-like"):
        unpack(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xca\x3f\xc0\x00\x00", 1.5),
        (b"\xd0\x05", 5),
        (b"\xd3" + struct.pack(">q", -5), -5),
        (b"\xcf" + struct.pack(">Q", 5), 5),
        (b"\xdb\x00\x00\x00\x02hi", "hi"),
        (b"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x01\xa1k\xc2", [{"k": False}]),
        (b"\x81\xc4\x01k\x01", {b"k": 1}),
        (b"\x82\xa1k\x01\xa1k\x02", {"k": 2}),
    ],
)
def test_forms_that_others_write(data, value):
    assert unpack(data) == value == msgpack.unpackb(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "byte 0: the data end inside a value"),
        (b"\x81\xa1", "byte 0: a container announces more values than bytes follow"),
        (b"\x81\xa1a", "byte 3: the data end inside a value"),
        (b"\x81\xa3ab", "byte 1: the data end inside a value"),
        (b"\x91\xda\x01", "byte 1: the data end inside a value"),
        (b"\x92\x01\xc1", "byte 2: 0xc1 starts no value"),
        (b"\x01\x02\x03", "byte 1: 2 bytes follow the value"),
        (b"\xdd\xff\xff\xff\xff", "byte 0: a container announces more values than bytes follow"),
        (b"\x81\x01\x02", "byte 1: a key that is neither str nor bytes"),
        (b"\x81\x90\x02", "byte 1: a key that is neither str nor bytes"),
        (b"\x91\xd4\x01\x02", "byte 1: an extension value, which no message holds"),
        (b"\xc7\x08\xff" + bytes(8), "byte 0: an extension value, which no message holds"),
        (b"\x91\xa2\xff\xff", "byte 2: text that is not UTF-8"),
        (b"\x81\xa2\xc3\x28\x01", "byte 2: text that is not UTF-8"),
        (b"\xa3\xed\xa0\x80", "byte 1: text that is not UTF-8"),
        (b"\x91" * 128 + b"\x90", "byte 129: nested deeper than 128 levels"),
        (b"\x81\xa1k" * 129 + b"\xc0", "byte 385: nested deeper than 128 levels"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[:8].hex(),
)
def test_refused_with_the_offset(data, text):
    with pytest.raises(InvalidPayloadError) as caught:
        unpack(data)
    assert str(caught.value) == text
    assert isinstance(caught.value, ValueError)
    assert caught.value.__context__ is None


def test_nesting_limit_of_unpack():
    assert unpack(b"\x91" * 127 + b"\x90") == nested(128, list)


@given(st.binary(max_size=200))
@settings(max_examples=1000, deadline=None)
def test_random_bytes_agree_with_msgpack(data):
    agree_with_msgpack(data)


def test_mutated_bytes_agree_with_msgpack():
    dice = random.Random(2016)
    whole = pack({"type": "chat.message", "text": "é" * 40, "n": [1, -1, 2.5, None], "b": b"x" * 40, "d": {"k": True}})
    for _ in range(20_000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        agree_with_msgpack(bytes(data[: dice.randrange(len(data) // 2, len(data) + 1)]))


def agree_with_msgpack(data):
    """Both give the same value, or both refuse; ours alone refuses ext."""
    try:
        wanted = repr(msgpack.unpackb(data, ext_hook=refuse_ext))
    except Exception:  # msgpack raises its own kinds, struct's and the codec's
        with pytest.raises(InvalidPayloadError):
            unpack(data)
    else:
        if "Timestamp(" in wanted:  # made by msgpack itself, without the hook
            return
        assert repr(unpack(data)) == wanted


def refuse_ext(code, data):
    raise ValueError("ext")


# ------------------------------------------------------------------ memory


def test_keys_beyond_the_cache():
    # More keys than the cache has slots, of every length around its bounds, twice over, with equal heads and tails.
    keys = [f"{i:0{width}}"[:width] for width in (1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 64) for i in range(100)]
    keys += [f"head{i}0000000000tail" for i in range(1000)] + ["é" * n for n in range(1, 20)]
    for _ in range(2):
        for key in keys:
            assert unpack(pack({key: key})) == {key: key}


def test_no_memory_is_kept():
    marker = object()
    good = {"type": "chat.message", "text": "é" * 100, "list": [1, {"k": b"x" * 3000}], "k" * 40: 1, "n": 2**40}
    bad = {"list": [1, {"k": marker}], "text": good["text"]}
    packed = pack(good)
    broken = packed[:-9] + b"\xc1"
    key = "".join(["a", "key", "of", "no", "literal"])
    held = {key: marker}

    def everything():
        pack(good)
        unpack(packed)
        for call, error in (
            (lambda: pack(bad), InvalidMessageError),
            (lambda: pack(held), InvalidMessageError),
            (lambda: pack({"n": 2**70, "d": {1: 2}}), MessageRangeError),
            (lambda: pack(good, 200), MessageTooLarge),
            (lambda: pack(Meddler(lambda: 1 / 0)), ZeroDivisionError),
            (lambda: unpack(broken), InvalidPayloadError),
            (lambda: unpack(packed[:50]), InvalidPayloadError),
            (lambda: unpack(b"\x92\xa5abcde\xa2\xff\xff"), InvalidPayloadError),
        ):
            try:
                call()
            except error:
                continue
            pytest.fail("nothing was raised")

    for _ in range(50):
        everything()
    references = [sys.getrefcount(o) for o in (marker, key, good["text"])]
    gc.collect()
    tracemalloc.start()
    try:
        everything()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            everything()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # One small object for every second round would show.
    assert after - before < 20_000
    assert [sys.getrefcount(o) for o in (marker, key, good["text"])] == references
