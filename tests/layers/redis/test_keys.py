from __future__ import annotations

import fnmatch

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.keys import FLUSHED, Keys


def test_keys_of_two_prefixes_are_apart() -> None:
    a, ab = Keys("a"), Keys("ab")
    for keys in (a, ab):
        made = [keys.inbox("p"), keys.queue("c"), keys.group("g"), keys.lease("p"), keys.full("p"), keys.wake("l")]
        assert len(set(made)) == len(made)
        assert [keys.split(key) for key in made] == [
            ("i", "p"), ("q", "c"), ("g", "g"), ("l", "p"), ("f", "p"), ("w", "l"),
        ]  # fmt: skip
    assert not fnmatch.fnmatchcase(ab.queue("c"), a.pattern())
    assert a.split("a|stray") == ("", "")


def test_glob_letters_in_a_prefix_are_escaped() -> None:
    assert Keys("a*[b]?\\").pattern() == "a\\*\\[b\\]\\?\\\\|*"


def test_bad_prefix() -> None:
    for prefix in ("a|b", None, b"a"):
        with pytest.raises(InvalidChannelLayerError, match="prefix"):
            Keys(prefix)  # type: ignore[arg-type]


def test_leases_survive_a_flush() -> None:
    assert "l" not in FLUSHED
    assert "w" not in FLUSHED
