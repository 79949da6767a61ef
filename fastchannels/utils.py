"""Small things that Channels 1.x exported."""

from __future__ import annotations

from typing import Any

__all__ = ["name_that_thing"]


def name_that_thing(thing: Any) -> str:
    """The dotted path of a function, a method or a class; that of its class for any other object."""
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
