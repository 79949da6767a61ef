"""Which names a layer takes, and how much each of them may hold."""

from __future__ import annotations

import re
from typing import Any

import channels.layers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchannels.exceptions import InvalidNameError
from fastchannels.layers.memory import InMemoryChannelLayer


def test_capacity_is_asked_by_the_full_name() -> None:
    layer = InMemoryChannelLayer(channel_capacity={"a*!x": 7, "[ab]c": 8, re.compile("a"): 9})
    assert [layer.get_capacity(name) for name in ("a.b!x", "bc", "a.b!y", "ac", "ba")] == [7, 8, 9, 8, 100]


def test_methods_that_channels_calls() -> None:
    layer = InMemoryChannelLayer()
    for check in (layer.require_valid_channel_name, layer.valid_channel_name):
        assert check("a!b") is True
        assert check("a!", receive=True) is True
        with pytest.raises(TypeError):
            check("a!b", receive=True)
        with pytest.raises(TypeError):
            check("a?b")
    for check_group in (layer.require_valid_group_name, layer.valid_group_name):
        assert check_group("a") is True
        with pytest.raises(TypeError):
            check_group("a!")
    assert layer.require_valid_channel_name("a?b", single_reader=True)
    assert layer.valid_channel_names(["a", "b!"], receive=True)
    for names in ([], "a", ("a",), ["a", "b c"]):
        with pytest.raises(TypeError):
            layer.valid_channel_names(names)  # type: ignore[arg-type]
    assert layer.non_local_name("a!b") == "a!"


@given(
    st.text("aZ9-_.!? é\n", max_size=6) | st.integers(97, 102).map(lambda n: "x" * n) | st.sampled_from([None, 7]),
    st.booleans(),
)
def test_the_same_names_as_channels_4(name: Any, receive: bool) -> None:
    """But for what its pattern lets through by mistake: a last newline, and letters that are not ASCII (D-25)."""
    theirs = channels.layers.BaseChannelLayer()
    ours = InMemoryChannelLayer()
    by_mistake = isinstance(name, str) and (not name.isascii() or "\n" in name)
    for kind in ("channel", "group"):
        arguments = (name, receive) if kind == "channel" else (name,)
        try:
            wanted = bool(getattr(theirs, f"require_valid_{kind}_name")(*arguments)) and not by_mistake
        except TypeError:
            wanted = False
        check = getattr(ours, f"require_valid_{kind}_name")
        if wanted:
            assert check(*arguments) is True
        else:
            with pytest.raises(TypeError, match=rf"{kind} name|a process-local name to receive on ends at its"):
                check(*arguments)


def test_what_an_error_says() -> None:
    layer = InMemoryChannelLayer()
    said = {
        "a b": "'a b'",
        "x" * 100: f"{'x' * 40!r}... (100 characters)",
    }
    for name, shown in said.items():
        with pytest.raises(InvalidNameError) as caught:
            layer.require_valid_channel_name(name)
        assert str(caught.value) == (
            f"{shown} is not a channel name: it takes 1 to 99 characters out of ASCII letters, digits, '-', '_' "
            "and '.', with at most one '!' after the first character"
        )
    with pytest.raises(InvalidNameError, match=r"^a group name is a str, not bytes$"):
        layer.require_valid_group_name(b"g")  # type: ignore[arg-type]
    with pytest.raises(InvalidNameError, match=r"^'g!' is not a group name: .* '_' and '.'$"):
        layer.require_valid_group_name("g!")
