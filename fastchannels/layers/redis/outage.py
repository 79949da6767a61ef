"""What to do while Redis is away: how long to wait between two attempts, what to log, when to give up."""

from __future__ import annotations

import logging
import random
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.places import Place

logger = logging.getLogger("fastchannels.layer")

FIRST_DELAY: Final = 0.05  #: seconds before the second attempt; doubles
LONGEST_DELAY: Final = 0.5  #: and varies by half: work resumes well within 2 s of the return of Redis
QUIET: Final = 2.0  #: seconds between two lines in the log, in the end
CONNECT_TIMEOUT: Final = 5.0  #: seconds for one attempt, the login included
LEAST_TIMEOUT: Final = 0.1  #: the same when hardly any of ``reconnect_timeout`` is left
REFUSAL: Final = 1.0  #: seconds that a refused login stands for the attempts that follow it

#: Codes of error replies to a command that did not run because Redis starts, fails over or runs a slow script.
#: In a cluster also because it has not got the slot, or is giving it away.
NOT_RUN: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN", "BUSY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
#: What passes by itself beside them: the server is crowded, or ended a blocked pop when it changed its role.
_PASSING: Final = NOT_RUN | {"UNBLOCKED"}
#: Redis 6.2 wraps what a command inside a script was answered.
_IN_SCRIPT: Final = re.compile(r"ERR Error running script .*?: -([A-Z]+) ")


class ReplyError(Exception):
    """An error that Redis answered. ``code`` is its first word, also when a script met it."""

    @property
    def code(self) -> str:
        text = str(self)
        inside = _IN_SCRIPT.match(text)
        return inside[1] if inside is not None else text.partition(" ")[0]


class ProtocolBroken(ConnectionError):
    """Redis sent bytes that are not RESP."""


def is_passing(error: Exception) -> bool:
    """Whether another attempt to connect may fare better."""
    if isinstance(error, ReplyError):
        return error.code in _PASSING or str(error).startswith("ERR max number of clients")
    if isinstance(error, ssl.SSLError):
        # A server that goes down mid-handshake; every other TLS error is a matter of settings.
        return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return isinstance(error, OSError)


def refused(address: Place, error: ReplyError) -> LayerUnavailable:
    """What a caller is told of an error reply. Nothing of the command took effect."""
    if error.code == "OOM":
        return LayerUnavailable(
            f"Redis at {address} is out of memory, so nothing was stored: {error}. Raise its 'maxmemory', "
            "or lower 'capacity', 'inbox_capacity' or 'expiry' in CHANNEL_LAYERS CONFIG"
        )
    return LayerUnavailable(f"Redis at {address} answered {error}")


def require_master(hello: Any) -> None:
    """Raise a passing ``ReplyError`` when the answer to ``HELLO`` is a replica's.

    Servers and users without that command answer an error, and are taken for masters.
    """
    if isinstance(hello, list) and b"role" in hello[:-1] and hello[hello.index(b"role") + 1] in (b"replica", b"slave"):
        raise ReplyError("READONLY it is a replica now")


class LoginRefused(LayerUnavailable):
    """Redis is there and does not let this process in; another attempt fares no better."""


class Line(Protocol):
    """A connection, as far as a failover concerns it."""

    def cut(self, error: Exception) -> None:
        """Break it, from any thread, so that it is opened again."""


class Outage:
    """Tells the log, once a step for all connections of a layer, that Redis is away, and once that it is back."""

    def __init__(self, address: Place, limit: float, on_torn: Callable[[], None] = lambda: None) -> None:
        self.address = address
        self._master: Address | None = None
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self.limit = limit
        #: Called for each pop that was not answered when its connection broke.
        self._on_torn = on_torn
        self._since: float | None = None
        self._quiet_until = 0.0
        self._refusal: tuple[str, float] | None = None
        self._lock = threading.Lock()

    def tore(self) -> None:
        """A connection broke before a pop was answered: what Redis had popped for it, if anything, is lost (D-04)."""
        logger.warning("lost Redis at %s before it answered a pop, and what that had taken, if anything", self.address)
        self._on_torn()

    def refuse(self, text: str) -> LoginRefused:
        """The error of a refused login, which stands for a while: calls do not become a storm of logins."""
        self._refusal = text, time.monotonic() + REFUSAL
        return LoginRefused(text)

    def check(self) -> None:
        """Raise ``LoginRefused`` when a login was refused just now."""
        refusal = self._refusal
        if refusal is not None and time.monotonic() < refusal[1]:
            raise LoginRefused(refusal[0])

    def waiting(self, error: Exception, waited: float, delay: float) -> None:
        """An attempt failed after ``waited`` seconds of attempts; the next comes in ``delay``."""
        now = time.monotonic()
        with self._lock:
            if self._since is None:
                self._since = now
            if now < self._quiet_until:
                return
            self._quiet_until = now + max(delay * 0.9, min(waited, QUIET))
        logger.warning(
            "waiting for Redis at %s: %.1f s of %g s, %s: %s",
            self.address, waited, self.limit, type(error).__name__, error or "no answer",
        )  # fmt: skip

    @property
    def may_move(self) -> bool:
        """Redis may turn up in another place while the old one still takes connections."""
        return not isinstance(self.address, Address)

    def landed(self, line: Line, address: Address) -> None:
        """``line`` was opened to ``address``. When the master is another than before, the others are cut.

        A deposed master that hangs, or is behind a broken network, would not end the pops that wait there.
        """
        if not self.may_move:
            return
        with self._lock:
            before, self._master = self._master, address
            deposed = list(self._lines) if before is not None and before != address else []
            if deposed:
                self._lines = weakref.WeakSet()
            self._lines.add(line)
        for other in deposed:
            other.cut(ConnectionResetError(f"the master is {address} now"))

    def over(self) -> None:
        """A connection was opened."""
        self._refusal = None
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

    def timeout(self) -> float:
        """Seconds that the next attempt may take."""
        left = self._started + self._limit - time.monotonic()
        return min(CONNECT_TIMEOUT, max(left, LEAST_TIMEOUT))

    def failed(self, error: Exception) -> float:
        """Seconds to sleep before the next attempt."""
        address = self._outage.address
        if not is_passing(error):
            reason = f"{error}".rstrip(".") or type(error).__name__
            raise self._outage.refuse(
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
