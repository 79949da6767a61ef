"""The names of all keys that the layer keeps in Redis.

A key is ``<prefix>|<kind>|<name>``. No channel, group or process name holds ``|`` and neither may the prefix, so the
keys of prefix ``a`` are apart from those of ``ab`` and from those of channels_redis (D-19, D-48). In a cluster it is
``<prefix>|{<tag>}|<kind>|<name>``.
"""

from __future__ import annotations

from typing import Final

from fastchannels.exceptions import InvalidChannelLayerError

MARK: Final = "|"
INBOX: Final = "i"  #: list, by process: entries for all its process-local channels
COUNTER: Final = "c"  #: integer, by process: messages that were ever put into its inbox
QUEUE: Final = "q"  #: list, by ordinary channel
GROUP: Final = "g"  #: hash, by group: process -> counter of adds; ``=channel`` -> "<stamp> <capacity>"
LEASE: Final = "l"  #: string, by process: it lives
FULL: Final = "f"  #: set, by process: its channels that hold their capacity
WAKE: Final = "w"  #: list, by event loop: a token ends a blocking pop

#: What :meth:`~fastchannels.layers.base.ChannelLayer.flush` removes; the rest says who lives and holds no message.
FLUSHED: Final = (INBOX, COUNTER, QUEUE, GROUP, FULL)


class Keys:
    """Builds the keys under one prefix. Raises ``InvalidChannelLayerError`` for a prefix that cannot be kept apart."""

    def __init__(self, prefix: str, tag: str = "") -> None:
        if not isinstance(prefix, str) or MARK in prefix:
            raise InvalidChannelLayerError(f"CONFIG option prefix={prefix!r}: a str without {MARK!r}")
        if tag:
            if "{" in prefix:
                raise InvalidChannelLayerError(f"CONFIG option prefix={prefix!r}: without '{{' in a cluster")
            prefix = f"{prefix}{MARK}{{{tag}}}"
        self.base = prefix + MARK
        #: Named beside the keys of a script that uses keys it does not name, and of those it must not overtake. Nothing
        #: is ever stored there: while its slot moves, a cluster runs no script with a key that is missing.
        self.anchor = (f"{{{tag}}}",) if tag else ()
        self._inbox = f"{prefix}{MARK}{INBOX}{MARK}"
        self._counter = f"{prefix}{MARK}{COUNTER}{MARK}"
        self._queue = f"{prefix}{MARK}{QUEUE}{MARK}"
        self._group = f"{prefix}{MARK}{GROUP}{MARK}"
        self._lease = f"{prefix}{MARK}{LEASE}{MARK}"
        self._full = f"{prefix}{MARK}{FULL}{MARK}"
        self._wake = f"{prefix}{MARK}{WAKE}{MARK}"

    def inbox(self, process: str) -> str:
        return self._inbox + process

    def counter(self, process: str) -> str:
        return self._counter + process

    def queue(self, channel: str) -> str:
        return self._queue + channel

    def group(self, group: str) -> str:
        return self._group + group

    def lease(self, process: str) -> str:
        return self._lease + process

    def full(self, process: str) -> str:
        return self._full + process

    def wake(self, loop: str) -> str:
        return self._wake + loop

    def pattern(self) -> str:
        """A glob for ``SCAN`` that matches every key of this prefix and nothing else."""
        escaped = "".join("\\" + letter if letter in "*?[]^-\\" else letter for letter in self.base)
        return escaped + "*"

    def split(self, key: str) -> tuple[str, str]:
        """``(kind, name)`` of a key that :meth:`pattern` matched; the kind is empty when the key is not ours."""
        kind, mark, name = key[len(self.base) :].partition(MARK)
        return (kind, name) if mark else ("", "")
