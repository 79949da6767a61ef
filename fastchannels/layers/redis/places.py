"""The kinds of places where a shard can be."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.cluster import ClusterShard
from fastchannels.layers.redis.sentinel import Sentinels

#: Seconds that a Sentinel or a node may take to answer: the others are asked as well in the time of one attempt.
ASK_TIMEOUT: Final = 1.0

Place: TypeAlias = "Address | Sentinels | ClusterShard"


def tag_of(place: Place) -> str:
    """The hash tag that the keys of a shard carry, if any."""
    return place.tag if isinstance(place, ClusterShard) else ""


def probes(place: Place) -> list[tuple[str, ...]]:
    """Commands that fail as long as a connection to ``place`` is not where its keys are."""
    return [place.probe] if isinstance(place, ClusterShard) else []


def is_cluster(hello: Any) -> bool:
    """Whether the answer to ``HELLO`` is that of a node of a cluster."""
    return isinstance(hello, list) and b"mode" in hello[:-1] and bool(hello[hello.index(b"mode") + 1] == b"cluster")


def misplaced(place: Place, hello: Any) -> str:
    """What is wrong with a server that answers ``HELLO`` so, for one that is named as ``place`` is; or nothing."""
    if is_cluster(hello) and not isinstance(place, ClusterShard):
        return "it is a node of a Redis Cluster, and 'hosts' names a single server: write {'cluster': [(host, port)]}"
    return ""
