"""Finding the master of a replicated Redis through its Sentinels."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.redis.address import Address, parse_host

PORT: Final = 26379


class MasterUnknown(ConnectionError):
    """No Sentinel that can be asked knows the master."""


@dataclass(frozen=True)
class Sentinels:
    """A master known by name. ``master`` tells how to log in there; host and port are found anew for each attempt."""

    sentinels: tuple[Address, ...]
    master_name: str
    master: Address = field(default_factory=Address)

    def __str__(self) -> str:
        places = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://{places}/{self.master_name}" + (f"?db={self.master.db}" if self.master.db else "")

    @property
    def name(self) -> str:
        """What tells this Redis from others, in whatever order its Sentinels are listed."""
        return self.master_name + "@" + ",".join(sorted(sentinel.name for sentinel in self.sentinels)) + (
            f"/{self.master.db}" if self.master.db else ""
        )  # fmt: skip

    @property
    def question(self) -> tuple[str, str, str]:
        """What each Sentinel is asked."""
        return "SENTINEL", "get-master-addr-by-name", self.master_name

    def find(self) -> Generator[Address, Any, Address]:
        """Yields Sentinels to ask, is sent the answer of each or has the error thrown in, and returns the master.

        Raises ``MasterUnknown`` when none knows it.
        """
        failures = []
        for sentinel in self.sentinels:
            try:
                answer = yield sentinel
                host, port = answer
                return replace(self.master, host=host.decode("utf-8"), port=int(port))
            except Exception as error:
                # Whatever one Sentinel suffers from, the next may know.
                reason = f"knows no {self.master_name!r}" if isinstance(error, TypeError) else error
                failures.append(f"{sentinel.host}:{sentinel.port} {reason or type(error).__name__}")
        raise MasterUnknown("no Sentinel tells the master: " + "; ".join(failures))


def parse_sentinels(entry: Mapping[str, Any]) -> Sentinels:
    """``{"sentinels": [(host, port), ...], "master_name": ..., "sentinel_kwargs": {...}, **options of the master}``."""
    options = dict(entry)
    listed, name = options.pop("sentinels", None), options.pop("master_name", None)
    login = options.pop("sentinel_kwargs", None) or {}
    if not isinstance(listed, (list, tuple)) or not listed:
        raise InvalidChannelLayerError(f"CONFIG option hosts: sentinels={listed!r}: a list of (host, port)")
    if not isinstance(name, str) or not name:
        raise InvalidChannelLayerError(f"CONFIG option hosts: master_name={name!r}: the name that the Sentinels know")
    if {"host", "port", "path", "address"} & (set(options) | set(login)):
        raise InvalidChannelLayerError("CONFIG option hosts: the place of a master is what its Sentinels tell")
    sentinels = []
    for place in listed:
        if isinstance(place, str):
            place = (place, PORT)
        if not isinstance(place, (list, tuple)) or len(place) != 2:
            raise InvalidChannelLayerError(f"CONFIG option hosts: sentinels has {place!r}: give (host, port)")
        sentinels.append(parse_host({"host": place[0], "port": place[1], **login}))
    return Sentinels(tuple(sentinels), name, parse_host(options))
