"""What one client may take of the server: connections, requests at once, time for a request, messages a second."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from fastchannels.server.proxy import TrustedAddresses

logger = logging.getLogger("fastchannels.server")

#: Files beside the connections: the store, logs, imports, what the application opens.
_OTHER_FILES: Final = 128
#: As many as a server raises its own limit to; who wants more sets the limit.
_MANY_FILES: Final = 65536
_LOG_INTERVAL: Final = 1.0


class Drops:
    """Counts by reason what was refused or cut, and logs each reason at most once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        #: By reason: when a line may be logged again, how many the last one told of, and what the next one says.
        self._lines: dict[str, tuple[float, int, str]] = {}

    def note(self, reason: str, detail: str) -> None:
        """One more for ``reason``, a short name; ``detail`` is for a person."""
        self.counts[reason] += 1
        due, told, _ = self._lines.get(reason, (float("-inf"), 0, ""))
        self._lines[reason] = (due, told, detail)
        self._log(reason)

    def report(self) -> None:
        """Log what was not due when it was noted; called now and then."""
        for reason in self._lines:
            self._log(reason)

    def _log(self, reason: str) -> None:
        due, told, detail = self._lines[reason]
        total, now = self.counts[reason], self._clock()
        if total > told and now >= due:
            self._lines[reason] = (now + _LOG_INTERVAL, total, detail)
            more = total - told - 1
            logger.warning("%s%s", detail, f" ({more} more like it)" if more else "")


def connection_limit(wanted: int | None) -> int:
    """How many connections may be open: ``wanted``; 0: no limit; ``None``: what the limit on open files allows."""
    if wanted is not None:
        return wanted if wanted > 0 else sys.maxsize
    try:
        import resource
    except ImportError:
        return sys.maxsize
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files - _OTHER_FILES, files // 2)


def raise_open_files() -> None:
    """Let this process open more files, which connections are, than its soft limit says: up to the hard one."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a lower bound of their own.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def address_key(host: str) -> str | bytes:
    """What connections are counted by: an IPv4 address, or the /64 of an IPv6 one, which is one customer's."""
    if ":" in host:
        try:
            packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        except OSError:
            return host
        # A socket for both families gives IPv4 peers the form ::ffff:1.2.3.4.
        return packed[12:] if packed.startswith(b"\0" * 10 + b"\xff\xff") else packed[:8]
    return host


class Gate:
    """Lets connections in up to ``limit`` in all and ``per_address`` from one address (0: no limit).

    Those of ``exempt`` addresses, proxies above all, count in all only.
    """

    def __init__(self, limit: int, per_address: int, exempt: TrustedAddresses, drops: Drops) -> None:
        self.limit = limit
        self.per_address = per_address
        self._exempt = exempt
        self._drops = drops
        self._open = 0
        #: Connections that were let in, in all.
        self.accepted = 0
        self._by_address: dict[str | bytes, int] = {}

    def enter(self, host: str | None) -> bool:
        """Count a connection of ``host`` (``None``: a Unix socket); False when it must be turned away."""
        if self._open >= self.limit:
            self._drops.note(
                "connections", f"a connection is refused: {self._open} are open (limit_connections, open files)"
            )
            return False
        if self.per_address > 0 and host is not None and host not in self._exempt:
            key = address_key(host)
            count = self._by_address.get(key, 0)
            if count >= self.per_address:
                self._drops.note(
                    "per_address",
                    f"a connection of {host} is refused: it has {count} (limit_per_address; "
                    "a proxy belongs into forwarded_allow_ips)",
                )
                return False
            self._by_address[key] = count + 1
        self._open += 1
        self.accepted += 1
        return True

    def leave(self, host: str | None) -> None:
        """A connection that was let in has ended."""
        self._open -= 1
        if self.per_address > 0 and host is not None and host not in self._exempt:
            key = address_key(host)
            count = self._by_address[key] - 1
            if count:
                self._by_address[key] = count
            else:
                del self._by_address[key]
