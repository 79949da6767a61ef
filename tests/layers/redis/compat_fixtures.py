"""Layers on the wire of channels_redis, in place of those of conftest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from fastchannels.layers.redis import RedisCompatChannelLayer

from ..redis_server import RedisServer

_numbers = itertools.count()


@pytest.fixture
def make_layer(server: RedisServer) -> Iterator[Any]:
    """A layer under a prefix of its own."""
    made: list[RedisCompatChannelLayer] = []

    def make(**options: Any) -> RedisCompatChannelLayer:
        # No prefix may begin another.
        layer = RedisCompatChannelLayer(**{"hosts": [server.url], "prefix": f"c{next(_numbers)}.", **options})
        layer._made_with = options  # type: ignore[attr-defined]
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close_sync()


@pytest.fixture
def view_of(make_layer: Any) -> Any:
    def view(layer: RedisCompatChannelLayer) -> RedisCompatChannelLayer:
        options = {**layer._made_with, "prefix": layer.prefix}  # type: ignore[attr-defined]
        other: RedisCompatChannelLayer = make_layer(**options)
        return other

    return view
