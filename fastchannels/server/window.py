"""The events of one socket on their way to a worker: one in flight, the others wait (design section 6). No I/O.

The life of an event: it waits; ``take`` hands it out to be sent; ``sent`` says that the layer has it; ``ack`` frees the
window for the next. When neither an acknowledgement nor a busy note comes for ``ack_timeout``, ``check`` asks for the
number of unread messages of the channel. None means that a worker took the event; when it gives no sign of life until
the next question either, it died. Some mean that the event may be among them (also one that was put back), and it is
waited for until it has expired. An event whose worker died is sent again, ``REDELIVERIES`` times at most; a worker
says by ``lost`` that its route does not want that.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from fastchannels.envelope import BUSY_INTERVAL
from fastchannels.exceptions import InternalError
from fastchannels.server.timer import NEVER

#: Waiting events at which the socket stops being read.
MAX_EVENTS: Final = 64
MAX_BYTES: Final = 256 * 1024

#: How often an event is sent again whose worker died.
REDELIVERIES: Final = 3

#: Seconds between the two questions: a consumer that began just before the first has sent a busy note by the second.
_GRACE: Final = 2 * BUSY_INTERVAL


class Event:
    """One event of a socket. ``number`` is given when it is taken, so that what was never sent leaves no gap."""

    __slots__ = ("alive", "content", "deaths", "kind", "number", "offered", "queued", "size")

    def __init__(self, kind: str, content: dict[str, Any], size: int, queued: float) -> None:
        self.kind = kind
        self.content = content
        self.size = size
        self.queued = queued
        self.number = -1
        #: Workers that died with it.
        self.deaths = 0
        #: When it was put on its channel: later ones there are taken after it.
        self.offered = 0.0
        #: When its worker was last heard of; that may have put it back, behind what waits.
        self.alive = 0.0


class Verdict(enum.Enum):
    """What ``check`` found."""

    WAIT = "nothing to do before the new deadline"
    ASK = "call answer() with the number of unread messages on the event's channel"
    AGAIN = "send the event in flight once more"
    DROPPED = "the event in flight was given up: the window is free"


class _State(enum.Enum):
    IDLE = 0
    SENDING = 1
    SENT = 2


class Window:
    """``expiry`` is the layer's; it bounds how long an event waits here, and how long it may lie in the layer."""

    __slots__ = (
        "_ack_timeout",
        "_bytes",
        "_clock",
        "_doubted",
        "_expiry",
        "_gone_at",
        "_next",
        "_state",
        "_waiting",
        "closed",
        "current",
        "deadline",
        "dropped",
        "finished",
        "session",
    )

    def __init__(self, clock: Callable[[], float], expiry: float, ack_timeout: float) -> None:
        self._clock = clock
        self._expiry = expiry
        self._ack_timeout = ack_timeout
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._next = 0
        self._state = _State.IDLE
        self._gone_at = NEVER
        #: The last answer was that nothing is unread.
        self._doubted = False
        #: The event that is being sent or in flight.
        self.current: Event | None = None
        #: When to call ``check``.
        self.deadline = NEVER
        #: The session bytes that go with each event.
        self.session: bytes | None = None
        #: ``disconnect`` was added: nothing more can be.
        self.closed = False
        #: ``disconnect`` was acknowledged or given up.
        self.finished = False
        #: Events that no consumer finished, by reason: "worker", "expired", "refused", "left".
        self.dropped: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """The socket should not be read until more events are done."""
        return len(self._waiting) >= MAX_EVENTS or self._bytes >= MAX_BYTES

    @property
    def ready(self) -> bool:
        """``take`` would hand out an event."""
        return self._state is _State.IDLE and bool(self._waiting)

    @property
    def next_number(self) -> int:
        """The number of the event after the last that was taken."""
        return self._next

    def add(self, kind: str, content: dict[str, Any], size: int = 0) -> None:
        """Let an event wait. After "disconnect", which is the last, it does nothing."""
        if self.closed:
            return
        if kind == "disconnect":
            self.closed = True
        self._bytes += size
        self._waiting.append(Event(kind, content, size, self._clock()))

    def take(self) -> Event | None:
        """The event to send now, or None while one is in flight or none waits."""
        if self._state is not _State.IDLE:
            return None
        now = self._clock()
        while self._waiting:
            event = self._waiting.popleft()
            self._bytes -= event.size
            if now - event.queued > self._expiry:
                self._count("expired", event)
                continue
            event.number = self._next
            self._next += 1
            self.current = event
            self._state = _State.SENDING
            return event
        return None

    def sent(self) -> None:
        """The layer has the event that was taken."""
        # An acknowledgement may have overtaken the end of the send: then there is nothing to wait for.
        if self._state is _State.SENDING:
            self._state = _State.SENT
            self._doubted = False
            self._gone_at = self._clock() + self._expiry
            self._wait(self._ack_timeout)

    def refused(self, reason: str) -> None:
        """The event that was taken could not be sent and is given up; its number is used again."""
        if self._state is not _State.SENDING or self.current is None:
            raise InternalError("no event is being sent")
        self._next -= 1
        self._count(reason, self.current)
        self._free()

    def discard_waiting(self) -> None:
        """Give up what waits, except "disconnect"."""
        last = self._waiting[-1] if self._waiting and self._waiting[-1].kind == "disconnect" else None
        self.dropped["refused"] += len(self._waiting) - (last is not None)
        self._waiting.clear()
        self._bytes = 0
        if last is not None:
            self._waiting.append(last)

    def ack(self, number: int, lost: bool = False) -> bool:
        """A consumer finished event ``number``, or it is ``lost``. False for one that is not in flight any more."""
        event = self.current
        if event is None or event.number != number:
            return False
        if lost:
            self._count("worker", event)
        self.finished = event.kind == "disconnect"
        self._free()
        return True

    def busy(self, number: int) -> None:
        """A consumer works on event ``number``."""
        if self.current is not None and self.current.number == number:
            self._doubted = False
            self.current.alive = self._clock()
            self._gone_at = self._clock() + self._expiry
            self._wait(self._ack_timeout)

    def check(self) -> Verdict:
        """Call at or after ``deadline``."""
        now = self._clock()
        if self.current is None or now < self.deadline:
            return Verdict.WAIT
        if now >= self._gone_at:
            return self._drop("expired")
        self.deadline = min(now + self._ack_timeout, self._gone_at)
        return Verdict.ASK

    def answer(self, number: int, unread: int) -> Verdict:
        """``unread`` messages lie on the channel of event ``number``: ``WAIT``, ``AGAIN`` or ``DROPPED``.

        After ``AGAIN`` the event is being sent, as after ``take``.
        """
        if self.current is None or self.current.number != number or self._state is not _State.SENT:
            return Verdict.WAIT
        if unread:
            self._doubted = False
        elif self._doubted:
            if self.current.deaths >= REDELIVERIES:
                return self._drop("worker")
            self.current.deaths += 1
            self._state = _State.SENDING
            self.deadline = NEVER
            return Verdict.AGAIN
        else:
            self._doubted = True
            self._wait(min(_GRACE, self._ack_timeout))
        return Verdict.WAIT

    def _wait(self, seconds: float) -> None:
        self.deadline = self._clock() + seconds

    def _free(self) -> None:
        self.current = None
        self._state = _State.IDLE
        self.deadline = NEVER

    def _drop(self, reason: str) -> Verdict:
        assert self.current is not None
        self._count(reason, self.current)
        self._free()
        return Verdict.DROPPED

    def _count(self, reason: str, event: Event) -> None:
        self.dropped[reason] += 1
        if event.kind == "disconnect":
            self.finished = True
