"""Which names a layer takes, and how much each of them may hold."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import ClassVar

from fastchannels import conf
from fastchannels._core.names import check_channel_name, check_group_name, local_part
from fastchannels.exceptions import InvalidChannelLayerError, InvalidNameError
from fastchannels.layers.options import whole


class Names:
    """The part of a layer that judges names, by the rules of Channels 4."""

    #: A channel or group name is shorter than this.
    MAX_NAME_LENGTH: ClassVar[int] = conf.MAX_NAME_LENGTH

    capacity: int
    channel_capacity: list[tuple[re.Pattern[str], int]]

    def require_valid_channel_name(self, name: str, receive: bool = False, *, single_reader: bool = False) -> bool:
        """True, or ``InvalidNameError``. With ``receive`` a process-local name must end at its ``!``."""
        check_channel_name(name, single_reader)
        if receive and local_part(name) != name:
            raise InvalidNameError(f"{name!r}: a process-local name to receive on ends at its '!'")
        return True

    def require_valid_group_name(self, name: str) -> bool:
        """True, or ``InvalidNameError``."""
        check_group_name(name)
        return True

    def valid_channel_name(self, name: str, receive: bool = False) -> bool:
        """The older name of :meth:`require_valid_channel_name`."""
        return self.require_valid_channel_name(name, receive)

    def valid_group_name(self, name: str) -> bool:
        """The older name of :meth:`require_valid_group_name`."""
        return self.require_valid_group_name(name)

    def valid_channel_names(self, names: list[str], receive: bool = False) -> bool:
        """True, or ``InvalidNameError`` for a name, or for anything but a list that is not empty."""
        if not isinstance(names, list) or not names:
            raise InvalidNameError(f"channel names are a list with at least one name, not {names!r}")
        return all(self.require_valid_channel_name(name, receive) for name in names)

    def non_local_name(self, name: str) -> str:
        """``name`` up to and including its ``!``, or the whole name."""
        return local_part(name)

    @staticmethod
    def compile_capacities(
        channel_capacity: Mapping[str | re.Pattern[str], int],
    ) -> list[tuple[re.Pattern[str], int]]:
        """Globs become patterns; anything with ``match`` is used as it is. Order is kept: the first match wins."""
        if not isinstance(channel_capacity, Mapping):
            raise InvalidChannelLayerError(
                f"CONFIG option channel_capacity={channel_capacity!r}: a dict of {{glob or compiled pattern: capacity}}"
            )
        return [
            (
                re.compile(fnmatch.translate(pattern)) if isinstance(pattern, str) else pattern,
                whole(f"channel_capacity[{pattern!r}]", capacity, 1),
            )
            for pattern, capacity in channel_capacity.items()
        ]

    def get_capacity(self, channel: str) -> int:
        """Unread messages that ``channel`` may hold."""
        for pattern, capacity in self.channel_capacity:
            if pattern.match(channel):
                return capacity
        return self.capacity
