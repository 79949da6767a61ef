from __future__ import annotations

import enum
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchannels._core.names import ShardRing, check_channel_name, check_group_name, hash_name, local_part, process_of
from fastchannels.exceptions import InvalidNameError

PLAIN = "[A-Za-z0-9_.-]"
GROUP = re.compile(rf"{PLAIN}+\Z")
CHANNEL = re.compile(rf"{PLAIN}+(!{PLAIN}*)?\Z")
SINGLE_READER = re.compile(rf"{PLAIN}+(!{PLAIN}*|\?{PLAIN}+)?\Z")

LOCAL = "specific." + "0" * 32 + "!" + "f" * 32

texts = st.one_of(
    st.text(max_size=110),
    st.text("aZ9-_.!?", max_size=110),
    st.text("ab!", max_size=8),
    st.text("ab?!\n", max_size=8),
)


def passes(check: object, *arguments: object) -> bool:
    try:
        assert check(*arguments) == arguments[0]  # type: ignore[operator]
    except InvalidNameError:
        return False
    return True


@given(texts)
def test_checks_match_the_rule(name: str) -> None:
    short = len(name) < 100
    assert passes(check_group_name, name) == (short and GROUP.match(name) is not None)
    assert passes(check_channel_name, name) == (short and CHANNEL.match(name) is not None)
    assert passes(check_channel_name, name, True) == (short and SINGLE_READER.match(name) is not None)


def test_length() -> None:
    check_channel_name("x" * 99)
    check_group_name("x" * 99)
    for check, kind in ((check_channel_name, "channel"), (check_group_name, "group")):
        with pytest.raises(InvalidNameError, match=rf"is not a {kind} name: it takes 1 to 99 characters out of ASCII"):
            check("x" * 100)
        with pytest.raises(InvalidNameError, match=r"^'x{40}'\.\.\. \(5000 characters\)") as caught:
            check("x" * 5000)
        assert len(str(caught.value)) < 300


def test_message_says_what_the_kind_of_name_allows() -> None:
    with pytest.raises(TypeError, match=r"^'a\?b' is not a channel name.*one '!' after the first character$"):
        check_channel_name("a?b")
    with pytest.raises(TypeError, match=r"^'a\?' is not a channel name.*\(or one '\?' between two characters\)$"):
        check_channel_name("a?", single_reader=True)
    with pytest.raises(TypeError, match=r"^'a!' is not a group name.*'-', '_' and '\.'$"):
        check_group_name("a!")
    for value in (None, 1, b"a", ["a"]):
        with pytest.raises(TypeError, match=f"^a channel name is a str, not {type(value).__name__}$"):
            check_channel_name(value)
        with pytest.raises(TypeError, match=f"^a group name is a str, not {type(value).__name__}$"):
            check_group_name(value)


def test_subclass_of_str() -> None:
    class Name(str):
        pass

    class Kind(str, enum.Enum):
        JOBS = "jobs"

    for plain in (check_channel_name(Name("a!b")), check_group_name(Kind.JOBS), check_channel_name("jobs")):
        assert type(plain) is str
    assert check_channel_name(Name("a!b")) == "a!b"
    assert check_group_name(Kind.JOBS) == "jobs"
    assert process_of(Name(LOCAL)) == "0" * 32
    assert local_part(Name("a!b")) == "a!"
    for bad in (Name("a b"), Name("é"), Name("")):
        with pytest.raises(InvalidNameError):
            check_channel_name(bad)


@pytest.mark.parametrize(
    ("name", "local", "process"),
    [
        (LOCAL, "specific." + "0" * 32 + "!", "0" * 32),
        ("http.response.abc!x.y", "http.response.abc!", "abc"),
        ("a.b!", "a.b!", "b"),
        ("a!b", "a!", ""),
        ("jobs.x", "jobs.x", ""),
        ("a.b!c!d", "a.b!", "b"),
        ("é.b!c", "é.b!", "b"),
        ("é", "é", ""),
        ("", "", ""),
    ],
)
def test_parts(name: str, local: str, process: str) -> None:
    assert local_part(name) == local
    assert process_of(name) == process


def reference_hash(data: bytes) -> int:
    mask = 2**64 - 1
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> 33) * factor & mask
    return h ^ h >> 33


def test_hash_golden_values() -> None:
    assert hash_name("") == 17280346270528514342
    assert hash_name("a") == 9413272369427828315


@given(st.text())
def test_hash_matches_the_reference(name: str) -> None:
    try:
        data = name.encode()
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            hash_name(name)
        return
    assert hash_name(name) == hash_name(data) == reference_hash(data)


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "from fastchannels._core.names import *; print(hash_name('chat'), ShardRing(['a', 'b', 'c']).shard_for('chat'))"
    )
    answers = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
        for _ in range(2)
    }
    assert answers == {f"{hash_name('chat')} {ShardRing(['a', 'b', 'c']).shard_for('chat')}\n"}


def test_ring_moves_its_share_when_a_shard_is_added() -> None:
    hosts = [f"10.0.0.{n}:6379" for n in range(5)]
    names = [f"room-{n}" for n in range(5000)]
    before, after = ShardRing(hosts[:4]), ShardRing(hosts)
    assert len(before) == 4
    moved = [name for name in names if hosts[before.shard_for(name)] != hosts[after.shard_for(name)]]
    assert 0.12 < len(moved) / len(names) < 0.28
    assert {after.shard_for(name) for name in moved} == {4}


@given(st.permutations([f"host-{n}" for n in range(6)]))
def test_ring_does_not_depend_on_the_order_of_shards(hosts: list[str]) -> None:
    ring, sorted_ring = ShardRing(hosts), ShardRing(sorted(hosts))
    for n in range(20):
        assert hosts[ring.shard_for(f"n{n}")] == sorted(hosts)[sorted_ring.shard_for(f"n{n}")]


def test_ring_refuses_what_makes_no_sense() -> None:
    for hosts, replicas in (([], 128), (["a"], 0), (["a"], -1), (["a", "a"], 128), ("abc", 128), (["a"], 2**25)):
        with pytest.raises(ValueError, match="shard"):
            ShardRing(hosts, replicas)
    with pytest.raises(TypeError):
        ShardRing(["a", 5])  # type: ignore[list-item]
