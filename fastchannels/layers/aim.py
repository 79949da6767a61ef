"""A message to several groups, or to all but some of their members: what its sender asks for, and how that travels."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from fastchannels._core.msgpack import pack, unpack
from fastchannels._core.names import check_channel_name, check_group_name

#: Bytes that tell how long the head of an aimed payload is.
_SIZE: Final = 4


class Aim(NamedTuple):
    """Every member of ``groups``, once, but those in ``excluded``.

    ``token`` is the same for parts of one message that travel apart, by which a member of two of them gets one.
    """

    groups: tuple[str, ...]
    excluded: frozenset[str] = frozenset()
    token: bytes = b""

    @property
    def name(self) -> str:
        """For counters and logs."""
        return ", ".join(self.groups)

    @property
    def head(self) -> bytes:
        """What precedes the payload on its way to a process."""
        packed = pack([list(self.groups), list(self.excluded), self.token])
        return len(packed).to_bytes(_SIZE, "big") + packed


def aim_of(groups: str | Iterable[str], exclude: str | Iterable[str]) -> Aim:
    """From what a sender gave. Raises ``InvalidNameError`` for a name that cannot be one."""
    if isinstance(groups, (str, bytes)) or not isinstance(groups, Iterable):
        groups = (groups,)
    excluded = map(check_channel_name, (exclude,) if isinstance(exclude, str) else exclude)
    return Aim(tuple(dict.fromkeys(map(check_group_name, groups))), frozenset(excluded))


def parse_aimed(data: bytes) -> tuple[Aim, bytes]:
    """The aim and the payload of ``head + payload``. Raises ``ValueError`` for other bytes."""
    start = _SIZE + int.from_bytes(data[:_SIZE], "big")
    head = unpack(data[_SIZE:start])
    if type(head) is not list or len(head) != 3:
        raise ValueError(f"the head of an aimed message is a list of 3, not {head!r:.80}")
    groups, excluded, token = head
    return Aim(tuple(groups), frozenset(excluded), token), data[start:]


def members_of(groups: tuple[str, ...], members: Callable[[str], Collection[str]]) -> Collection[str]:
    """Those of each group, once."""
    if len(groups) == 1:
        return members(groups[0])
    return dict.fromkeys(itertools.chain.from_iterable(map(members, groups)))


class Served:
    """Who got a part of a message whose other parts are on their way, for ``lifetime`` seconds."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._parts: OrderedDict[bytes, tuple[float, set[str]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._parts)

    def note(self, token: bytes, members: Collection[str]) -> frozenset[str]:
        """Those who got a part before; from now on ``members`` count too."""
        now = self._clock()
        while self._parts and next(iter(self._parts.values()))[0] <= now:
            self._parts.popitem(last=False)
        _, served = self._parts.setdefault(token, (now + self._lifetime, set()))
        before = frozenset(served)
        served.update(members)
        return before
