"""Values of CONFIG that are checked in the same way by every layer."""

from __future__ import annotations

import math
from typing import Any

from fastchannels.exceptions import InvalidChannelLayerError


def seconds(option: str, value: Any) -> float:
    """``value`` when it is a finite number above 0, else ``InvalidChannelLayerError`` naming the option."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InvalidChannelLayerError(f"CONFIG option {option}={value!r}: seconds, a number above 0")
    return value


def whole(option: str, value: Any, least: int) -> int:
    """``value`` when it is a whole number of at least ``least``, else ``InvalidChannelLayerError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidChannelLayerError(f"CONFIG option {option}={value!r}: a whole number, at least {least}")
    return value
