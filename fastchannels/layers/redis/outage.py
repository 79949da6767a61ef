"""What to do while Redis is away: how long to wait between two attempts, what to log, when to give up."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from typing import Final

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.address import Address

logger = logging.getLogger("fastchannels.layer")

FIRST_DELAY: Final = 0.05  #: seconds before the second attempt; doubles
LONGEST_DELAY: Final = 2.0
CONNECT_TIMEOUT: Final = 5.0  #: seconds for one attempt, the login included

#: Error replies that pass by themselves while Redis starts, fails over or is crowded.
_PASSING: Final = ("LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN", "ERR max number of clients")


class ReplyError(Exception):
    """An error that Redis answered."""


class ProtocolBroken(ConnectionError):
    """Redis sent bytes that are not RESP."""


def is_passing(error: Exception) -> bool:
    """Whether another attempt to connect may fare better."""
    if isinstance(error, ReplyError):
        return str(error).startswith(_PASSING)
    if isinstance(error, ssl.SSLError):
        # A server that goes down mid-handshake; every other TLS error is a matter of settings.
        return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return isinstance(error, OSError)


class Outage:
    """Tells the log, once a step for all connections of a layer, that Redis is away, and once that it is back."""

    def __init__(self, address: Address, limit: float) -> None:
        self.address = address
        self.limit = limit
        self._since: float | None = None
        self._quiet_until = 0.0
        self._lock = threading.Lock()

    def waiting(self, error: Exception, waited: float, delay: float) -> None:
        """An attempt failed after ``waited`` seconds of attempts; the next comes in ``delay``."""
        now = time.monotonic()
        with self._lock:
            if self._since is None:
                self._since = now
            if now < self._quiet_until:
                return
            self._quiet_until = now + delay * 0.9
        logger.warning(
            "waiting for Redis at %s: %.1f s of %g s, %s: %s",
            self.address, waited, self.limit, type(error).__name__, error or "no answer",
        )  # fmt: skip

    def over(self) -> None:
        """A connection was opened."""
        if self._since is None:
            return
        with self._lock:
            since, self._since, self._quiet_until = self._since, None, 0.0
        if since is not None:
            logger.info("Redis at %s is back after %.1f s", self.address, time.monotonic() - since)


class Attempts:
    """The attempts of one connection: says how long to sleep after a failure, or raises ``LayerUnavailable``."""

    def __init__(self, outage: Outage, limit: float | None = None) -> None:
        self._outage = outage
        self._limit = outage.limit if limit is None else limit
        self._started = time.monotonic()
        self._delay = FIRST_DELAY

    def failed(self, error: Exception) -> float:
        """Seconds to sleep before the next attempt."""
        address = self._outage.address
        if not is_passing(error):
            reason = f"{error}" or type(error).__name__
            raise LayerUnavailable(
                f"Redis at {address} refused the connection: {reason}. "
                "Check address, username, password, db and TLS options in CHANNEL_LAYERS CONFIG 'hosts'"
            ) from error
        waited = time.monotonic() - self._started
        delay = self._delay * random.uniform(0.5, 1.5)
        self._delay = min(self._delay * 2, LONGEST_DELAY)
        if waited + delay > self._limit:
            raise LayerUnavailable(
                f"Redis at {address} could not be reached for {waited:.1f} s "
                f"(reconnect_timeout {self._limit:g} s): {type(error).__name__}: {error}"
            ) from error
        self._outage.waiting(error, waited, delay)
        return delay
