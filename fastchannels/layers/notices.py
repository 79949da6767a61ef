"""CONFIG ``on_disconnect`` and ``on_reconnect``: consumers are told that the store is lost, and is back (D-44)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from fastchannels._core.inbox import Inbox
from fastchannels.exceptions import InvalidChannelLayerError

#: Seconds for which a channel counts as read after its last message, while its reader is busy with that.
BUSY: Final = 60.0


def check_notice(option: str, value: Any) -> str | None:
    """``value`` when it is None or the type of a message, else ``InvalidChannelLayerError``."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidChannelLayerError(f"CONFIG option {option}={value!r}: the type of a message, such as 'redis.lost'")
    return value


class Notices:
    """Puts ``{"type": value}`` once for each event on every process-local channel that is read in this process.

    Read is a channel that has a receiver or a waiting reader, or whose reader took a message within ``BUSY`` seconds
    and has not come back for the next. A notice is never refused for want of room. Any thread may call any method.
    """

    def __init__(
        self,
        on_disconnect: str | None,
        on_reconnect: str | None,
        inbox: Inbox,
        encode: Callable[[dict[str, Any]], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._on_disconnect = on_disconnect
        self._on_reconnect = on_reconnect
        self._inbox = inbox
        self._encode = encode
        self._clock = clock
        self._lost: set[Hashable] = set()
        #: Channels whose reader is busy, since when; the oldest first.
        self._busy: dict[str, float] = {}

    def waits(self, channel: str) -> None:
        """A reader waits for ``channel``, or it is not read any more."""
        self._busy.pop(channel, None)

    def took(self, channel: str) -> None:
        """The reader of ``channel`` got a message."""
        self._busy[channel] = self._clock()

    def lost(self, part: Hashable) -> None:
        """The connection to a part of the store was lost; the first of several parts is told."""
        if part not in self._lost:
            self._lost.add(part)
            if len(self._lost) == 1:
                self._tell(self._on_disconnect)

    def back(self, part: Hashable) -> None:
        """The part works again; the last of several is told. Nothing for a part that was not lost."""
        if part in self._lost:
            self._lost.discard(part)
            if not self._lost:
                self._tell(self._on_reconnect)

    def purge(self) -> None:
        """Forget readers that were busy for too long."""
        young = self._clock() - BUSY
        for channel, since in list(self._busy.items()):
            if since > young:
                break
            self._busy.pop(channel, None)

    def _tell(self, kind: str | None) -> None:
        if kind is None:
            return
        self.purge()
        payload = self._encode({"type": kind})
        for channel in {*self._inbox.watched(), *list(self._busy)}:
            if "!" in channel:
                self._inbox.admit(channel, payload)
