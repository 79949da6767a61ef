from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from fastchannels.layers.redis import RedisChannelLayer

from ..redis_server import RedisServer, running

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that do not break it."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def hosts(server: RedisServer) -> list[Any]:
    """CONFIG ``hosts`` of a layer. Modules with other servers replace it."""
    return [server.url]


@pytest.fixture
def make_layer(hosts: list[Any]) -> Iterator[Any]:
    """A layer under a prefix of its own. Its event-loop side ends with the loop of the test."""
    made: list[RedisChannelLayer] = []

    def make(**options: Any) -> RedisChannelLayer:
        layer = RedisChannelLayer(**{"hosts": hosts, "prefix": f"t{next(_numbers)}", **options})
        layer._made_with = options  # type: ignore[attr-defined]
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close_sync()


@pytest.fixture
def view_of(make_layer: Any) -> Any:
    def view(layer: RedisChannelLayer) -> RedisChannelLayer:
        other: RedisChannelLayer = make_layer(**{**layer._made_with, "prefix": layer.prefix})  # type: ignore[attr-defined]
        return other

    return view
