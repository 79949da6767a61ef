from __future__ import annotations

from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.hosts import parse_hosts
from fastchannels.layers.redis.sentinel import Sentinels

SENTINELS = {"sentinels": [("s", 1)], "master_name": "m"}


def test_nothing_is_the_default() -> None:
    assert parse_hosts(None) == parse_hosts([]) == [Address()]


def test_entries_of_every_form_mix() -> None:
    assert parse_hosts(["redis://a:1/2", ("b", 2), {"address": "redis://c"}, SENTINELS, "unix:///d"]) == [
        Address("a", 1, db=2),
        Address("b", 2),
        Address("c"),
        Sentinels((Address("s", 1),), "m"),
        Address(path="/d"),
    ]


@pytest.mark.parametrize("hosts", ["redis://h", b"redis://h", {"host": "h"}, 5])
def test_hosts_is_a_list(hosts: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match="a list"):
        parse_hosts(hosts)


def test_one_host_is_named_once() -> None:
    with pytest.raises(InvalidChannelLayerError, match="a:1 twice"):
        RedisChannelLayer(hosts=["redis://a:1", ("a", 1)])
    layer = RedisChannelLayer(hosts=["redis://me:hunter2@a:1", SENTINELS])
    assert str(layer) == "RedisChannelLayer(hosts=['redis://me:***@a:1', 'sentinel://s:1/m'])"
