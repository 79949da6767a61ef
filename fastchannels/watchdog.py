"""Watches, from a thread of its own, the consumers that run in this process.

It tells the protocol server which events of sockets are still being worked on, so that a consumer that sleeps, or waits
in C code that let the interpreter lock go, is not taken for a dead worker; and it reports, with the stack of its
thread, a consumer that runs longer than the worker's deadline.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.utils.functional import LazyObject, empty

from fastchannels import envelope
from fastchannels.exceptions import ChannelFull

if TYPE_CHECKING:
    from fastchannels.message import Message

__all__ = ["Running", "Watchdog", "nothing", "watch", "where"]

logger = logging.getLogger("fastchannels.worker")


def where(message: Message) -> str:
    """For the log: channel, and what tells one socket, request or user from another."""
    parts = []
    if (path := message.get("path")) is not None:
        parts.append(f"path {path}")
    if client := message.get("client"):
        parts.append(f"client {client[0]}:{client[1]}")
    if message.reply_channel is not None:
        parts.append(f"reply channel {message.reply_channel}")
    user = getattr(message, "user", None)
    # One that nobody has looked at is still in the database, and stays there.
    if user is not None and not (isinstance(user, LazyObject) and user._wrapped is empty):
        parts.append(f"user {user}")
    return f" on {message.channel}" + (f" ({', '.join(parts)})" if parts else "")


def nothing() -> None:
    """What is called when nobody wants to know."""


class Running:
    """One consumer that runs: its message, and its thread.

    When it has run for a quarter of ``BUSY_INTERVAL`` ``on_slow`` is called, again and again; ``on_overdue`` once, when
    it has run for ``deadline``.
    """

    __slots__ = ("awaitable", "begun", "deadline", "message", "noted", "on_overdue", "on_slow", "thread")

    def __init__(
        self, message: Message, deadline: float | None = None, on_overdue: Callable[[], None] = nothing,
        on_slow: Callable[[], None] = nothing,
    ) -> None:  # fmt: skip
        self.message = message
        self.deadline = deadline
        self.on_overdue = on_overdue
        self.on_slow = on_slow
        self.thread = threading.get_ident()
        #: Of a consumer that runs on the event loop of that thread.
        self.awaitable: Awaitable[Any] | None = None
        self.begun = self.noted = time.monotonic()


class Watchdog:
    """One for the process; its thread runs while a worker does."""

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        self._users = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The thread runs while somebody is inside."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._watch, args=(self._stop,), name="fastchannels-watchdog", daemon=True
                ).start()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._stop.set()

    # HOT: worker.handle
    def begin(self, running: Running) -> None:
        """A consumer starts."""
        self._running[id(running)] = running

    def end(self, running: Running) -> None:
        """It ended, and its acknowledgement has been sent."""
        self._running.pop(id(running), None)

    def note(self, message: Message) -> None:
        """Tell the protocol server that the event ``message`` is in good hands. Never raises."""
        if message.event is None or message.reply_channel is None:
            return
        try:
            message.channel_layer.send(message.reply_channel.name, {envelope.BUSY: message.event})
        except ChannelFull:
            # The server will hear of it at the next note; the messages that fill the channel are a sign of life too.
            pass
        except Exception as error:
            logger.warning("cannot tell %s that its event is being worked on: %s", message.reply_channel, error)

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(envelope.BUSY_INTERVAL / 4):
            try:
                self.look(time.monotonic())
            except Exception:
                logger.exception("the watchdog failed")

    def look(self, now: float) -> None:
        """Note and report what is due at ``now``."""
        for key, running in list(self._running.items()):
            if now - running.begun >= envelope.BUSY_INTERVAL / 4 and key in self._running:
                running.on_slow()
            if now - running.noted >= envelope.BUSY_INTERVAL and key in self._running:
                running.noted = now
                self.note(running.message)
            if running.deadline is not None and now - running.begun >= running.deadline and key in self._running:
                _report(running, now)
                running.deadline = None
                running.on_overdue()


def _stack_of(awaitable: Awaitable[Any]) -> list[FrameType]:
    """The frames of a coroutine and of what it awaits, the outermost first."""
    frames: list[FrameType] = []
    inner: Any = awaitable
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return frames


def _report(running: Running, now: float) -> None:
    frame = sys._current_frames().get(running.thread)
    suspended = [] if running.awaitable is None else _stack_of(running.awaitable)
    if suspended and not getattr(running.awaitable, "cr_running", False):
        stack = "".join(traceback.StackSummary.extract((each, each.f_lineno) for each in suspended).format())
    elif frame is not None:
        stack = "".join(traceback.format_stack(frame))
    else:
        stack = "  (its thread is gone)\n"
    logger.error(
        "a consumer has run for %.0f s%s; its stack:\n%s", now - running.begun, where(running.message), stack.rstrip()
    )


watch = Watchdog()
