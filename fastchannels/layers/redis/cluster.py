"""A Redis Cluster as a fixed number of shards, each a hash tag: its keys share a slot and follow it when it moves."""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.address import Address, parse_host
from fastchannels.layers.redis.sentinel import MasterUnknown

SLOTS: Final = 16384
#: Shards of one cluster when CONFIG does not say. Each costs a process that receives two connections and a heartbeat.
SHARDS: Final = 6


def slot_of(tag: str) -> int:
    """The slot of every key with the hash tag ``tag``."""
    return binascii.crc_hqx(tag.encode("utf-8"), 0) % SLOTS


def tags(count: int) -> list[str]:
    """``count`` hash tags with slots in equal parts of all, so that masters with equal parts get equal shares."""
    found = []
    for part in range(count):
        first, end = SLOTS * part // count, SLOTS * (part + 1) // count
        found.append(next(tag for tag in map(str, itertools.count()) if first <= slot_of(tag) < end))
    return found


class _Nodes:
    """What is known of the nodes, by all shards of one cluster. Any thread may use it."""

    def __init__(self, named: tuple[Address, ...]) -> None:
        self._named = named
        self._learned: tuple[Address, ...] = ()
        self._turns = itertools.count()

    def learn(self, nodes: list[Address]) -> None:
        self._learned = tuple(nodes)

    def __iter__(self) -> Iterator[Address]:
        """Another first with each pass: one that is cut off from the others tells what was, not what is."""
        known = list(dict.fromkeys((*self._learned, *self._named)))
        turn = next(self._turns) % len(known)
        return iter(known[turn:] + known[:turn])


@dataclass(frozen=True)
class ClusterShard:
    """The keys with one hash tag in a cluster; whichever master has their slot."""

    nodes: tuple[Address, ...]
    tag: str
    known: _Nodes = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The cluster."""
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    @property
    def name(self) -> str:
        """The same in every process, whatever nodes it was told of; so a layer has one cluster."""
        return f"{{{self.tag}}}"

    @property
    def question(self) -> tuple[str, str]:
        """What a node is asked."""
        return "CLUSTER", "SLOTS"

    @property
    def probe(self) -> tuple[str, str]:
        """Of a key that holds nothing: answered with an error by a node that is without the slot, or gives it away."""
        return "EXISTS", f"{{{self.tag}}}"

    def find(self) -> Generator[Address, Any, Address]:
        """Yields nodes to ask, is sent the answer of each or has the error thrown in, and returns the master.

        Raises ``MasterUnknown`` when none knows it.
        """
        slot = slot_of(self.tag)
        failures = []
        for node in self.known:
            try:
                answer = yield node
                owner, nodes = None, []
                for first, last, *members in answer:
                    for place, (host, port, *_) in enumerate(members):
                        # Without a name it is the node that was asked.
                        nodes.append(replace(node, host=host.decode("utf-8") if host else node.host, port=int(port)))
                        if first <= slot <= last and place == 0:
                            owner = nodes[-1]
                if owner is None:
                    failures.append(f"{node.host}:{node.port} knows no master of slot {slot}")
                    continue
                self.known.learn(nodes)
                return owner
            except Exception as error:
                # Whatever one node suffers from, the next may know.
                failures.append(f"{node.host}:{node.port} {error or type(error).__name__}")
        raise MasterUnknown("no node of the cluster tells the master: " + "; ".join(failures))


def parse_cluster(entry: Mapping[str, Any]) -> list[ClusterShard]:
    """``{"cluster": [(host, port), ...], "shards": 6, **options of every node}``."""
    options = dict(entry)
    listed, count = options.pop("cluster"), options.pop("shards", SHARDS)
    if not isinstance(listed, (list, tuple)) or not listed:
        raise InvalidChannelLayerError(f"CONFIG option hosts: cluster={listed!r}: a list of (host, port) of some nodes")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1024:
        raise InvalidChannelLayerError(f"CONFIG option hosts: shards={count!r}: a whole number from 1 to 1024")
    if {"host", "port", "path", "unix_socket_path", "address", "db"} & set(options):
        raise InvalidChannelLayerError(
            "CONFIG option hosts: a cluster has nodes, and one database; no host, path or db"
        )
    nodes = []
    for place in listed:
        if not isinstance(place, (list, tuple)) or len(place) != 2:
            raise InvalidChannelLayerError(f"CONFIG option hosts: cluster has {place!r}: give (host, port)")
        nodes.append(parse_host({"host": place[0], "port": place[1], **options}))
    known = _Nodes(tuple(nodes))
    return [ClusterShard(tuple(nodes), tag, known) for tag in tags(count)]
