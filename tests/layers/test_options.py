from __future__ import annotations

from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.options import seconds, whole


def test_good_values() -> None:
    assert (seconds("expiry", 60), seconds("expiry", 0.5)) == (60, 0.5)
    assert (whole("capacity", 1, 1), whole("max_message_size", 0, 0)) == (1, 0)


@pytest.mark.parametrize("value", [0, -1, True, "60", None, float("inf"), float("nan")])
def test_no_seconds(value: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"^CONFIG option expiry=.*: seconds, a number above 0$"):
        seconds("expiry", value)


@pytest.mark.parametrize("value", [1, 1.5, 2.0, True, "3", None])
def test_no_whole_number(value: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"^CONFIG option capacity=.*: a whole number, at least 2$"):
        whole("capacity", value, 2)
