"""Which of several hosts holds a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastchannels._core.names import ShardRing, process_of
from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.places import Place

_REPLICAS: Final = 128


class Shards:
    """The hosts of one layer, by number, and the compiled ring that gives each name to one of them.

    A host counts by what names it (host, port and database; the path of its socket), wherever it stands in the list, so
    every process must spell the hosts alike. Raises ``InvalidChannelLayerError`` when one is named twice.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self.names = tuple(place.name for place in places)
        for name in self.names:
            if self.names.count(name) > 1:
                raise InvalidChannelLayerError(f"CONFIG option hosts names {name} twice: name each host once")
        self._ring = ShardRing(self.names, _REPLICAS) if len(places) > 1 else None

    def __len__(self) -> int:
        return len(self.places)

    def of(self, name: str) -> int:
        """The host of a group, of a process (its direct messages), or of an ordinary channel."""
        return 0 if self._ring is None else self._ring.shard_for(name)

    def of_channel(self, channel: str) -> int:
        """The host that a direct send to ``channel`` goes to: for a process-local name that of its process (D-46)."""
        return 0 if self._ring is None else self._ring.shard_for(process_of(channel) if "!" in channel else channel)

    def number(self, name: str) -> int:
        """Where ``name`` stands in :attr:`names`. Raises ``ValueError`` for one that this process does not know."""
        return self.names.index(name)
