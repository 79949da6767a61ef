"""CONFIG ``hosts``: where the shards of a layer are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.address import DEFAULT, parse_host
from fastchannels.layers.redis.cluster import parse_cluster
from fastchannels.layers.redis.places import Place
from fastchannels.layers.redis.sentinel import parse_sentinels


def parse_hosts(hosts: Any) -> list[Place]:
    """The places in CONFIG ``hosts``, a list of entries or nothing. Raises ``InvalidChannelLayerError``.

    An entry is what :func:`~fastchannels.layers.redis.address.parse_host` takes, or a dict that names Sentinels, or
    the nodes of a cluster, which is several places.
    """
    if not hosts:
        return [parse_host(DEFAULT)]
    if isinstance(hosts, (str, bytes, Mapping)) or not isinstance(hosts, Sequence):
        raise InvalidChannelLayerError(f"CONFIG option hosts is a {type(hosts).__name__}: give a list of entries")
    places: list[Place] = []
    for entry in hosts:
        if isinstance(entry, Mapping) and "cluster" in entry:
            places += parse_cluster(entry)
        elif isinstance(entry, Mapping) and ("sentinels" in entry or "master_name" in entry):
            places.append(parse_sentinels(entry))
        else:
            places.append(parse_host(entry))
    return places
