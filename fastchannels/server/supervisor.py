"""Several worker processes behind one set of listening sockets.

The supervisor opens the sockets and never accepts; workers are forked and accept from the same queues. So a connection
that waits is lost neither when a worker crashes nor when one makes room for its successor, whatever kind of socket it
is; with a socket for each worker (SO_REUSEPORT) the queue of the one that ends would be reset. The supervisor imports
nothing of the application, so each new worker loads the code as it is then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

from fastchannels.exceptions import UsageError
from fastchannels.server import systemd
from fastchannels.server.leash import CUT, DRAIN, READY, SPENT, Leash
from fastchannels.server.reload import watch

logger = logging.getLogger("fastchannels.server")

#: Seconds before a worker that crashed is started again: doubled each time, unless it served for some time.
_FIRST_DELAY: Final = 0.5
_LAST_DELAY: Final = 30.0
_SERVED: Final = 10.0
#: Seconds that a worker gets beyond its own patience before it is killed, and when it was told to stop at once.
_BEYOND: Final = 20.0
_AT_ONCE: Final = 5.0
#: Seconds for running responses when a file changed.
_RELOAD_GRACE: Final = 1.0
_NEVER: Final = float("inf")


class Born(BaseException):
    """Raised in a new worker out of :meth:`Supervisor.run`: what called that is to serve, and to end the process."""

    def __init__(self, leash: Leash) -> None:
        super().__init__()
        self.leash = leash


@dataclasses.dataclass(eq=False)
class _Worker:
    slot: int
    pid: int
    sock: socket.socket
    since: float
    ready: bool = False
    #: When it is told to stop at once, and when it is killed.
    cut_at: float = _NEVER
    kill_at: float = _NEVER


class Supervisor:
    """Keeps ``count`` workers, each in its slot, until SIGTERM or SIGINT; SIGHUP replaces them one after the other.

    ``patience`` is how long a worker may need to drain. With ``watched`` directories there is one worker, which starts
    again when a file there changes.
    """

    def __init__(self, count: int, patience: float, watched: Sequence[str] = ()) -> None:
        if not hasattr(os, "fork"):
            raise UsageError("--workers, --reload and --limit-max-requests need a system that can fork")
        self._patience = patience
        self._watched = watched
        self._slots: list[_Worker | None] = [None] * count
        #: Workers that have started and do not serve yet, by their slot.
        self._candidates: dict[int, _Worker] = {}
        #: All, with those that drain.
        self._workers: dict[int, _Worker] = {}
        #: Slots whose worker is still to be replaced, and whether that goes on.
        self._rolling: list[int] = []
        self._replacing = False
        self._delays = [0.0] * count
        #: When a slot gets its next worker.
        self._due: dict[int, float] = {}
        self._serving = False  # all slots were filled once
        self._again = False  # a file changed since the worker started
        self._stopping = False
        self._status = 0
        self._watcher = 0
        self._news = -1
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._previous: dict[signal.Signals, object] = {}

    def run(self) -> int:
        """The exit status of the program, when the last worker has ended. Raises :class:`Born` in each worker."""
        for end in (self._waker, self._wake):
            end.setblocking(False)
        self._selector.register(self._waker, selectors.EVENT_READ, self._on_signals)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            self._previous[number] = signal.signal(number, _noted)
        if self._watched:
            self._start_watcher()
        # The first alone: what keeps it from starting is told once, and costs no other its start.
        self._start(0)
        while not self._stopping or self._workers:
            for key, _ in self._selector.select(self._next_deadline()):
                key.data()
            self._look_at_the_clock()
        self._stop_watcher()
        self._let_go()
        return self._status

    # ------------------------------------------------------------ processes

    def _start(self, slot: int) -> None:
        self._due.pop(slot, None)
        self._again = False
        ours, theirs = socket.socketpair()
        pid = self._fork()
        if pid == 0:
            ours.close()
            raise Born(Leash(theirs, slot))
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(slot, pid, ours, time.monotonic())
        self._workers[pid] = self._candidates[slot] = worker
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))

    def _fork(self) -> int:
        """Fork; the child has nothing of the supervisor's. A signal reaches one of the two, not both."""
        handled = set(self._previous)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        try:
            pid = os.fork()
            if pid == 0:
                for worker in self._workers.values():
                    worker.sock.close()
                self._let_go()
                # Ctrl-C reaches the whole group: while the application is imported it ends the worker without a word.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                # The supervisor's to heed.
                signal.signal(signal.SIGHUP, _noted)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        return pid

    def _let_go(self) -> None:
        """Give back signals and descriptors."""
        signal.set_wakeup_fd(-1)
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        self._selector.close()
        self._waker.close()
        self._wake.close()
        if self._news >= 0:
            os.close(self._news)

    def _hear(self, worker: _Worker) -> None:
        """What a worker told; nothing when its end was seen in the same turn, before its socket was looked at."""
        if worker.sock.fileno() < 0:
            return
        try:
            words = worker.sock.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            self._selector.unregister(worker.sock)
            worker.sock.close()
            return
        if READY in words and not worker.ready:
            self._on_ready(worker)
        if SPENT in words and self._slots[worker.slot] is worker and worker.slot not in self._candidates:
            logger.info("worker %d has served its requests; another takes over", worker.pid)
            self._start(worker.slot)

    def _on_ready(self, worker: _Worker) -> None:
        worker.ready = True
        logger.info("worker %d serves", worker.pid)
        if self._candidates.get(worker.slot) is worker:
            del self._candidates[worker.slot]
        if self._stopping:
            return
        before, self._slots[worker.slot] = self._slots[worker.slot], worker
        if before is not None:
            self._retire(before, self._patience)
        if not self._serving:
            missing = [slot for slot, held in enumerate(self._slots) if held is None and slot not in self._candidates]
            for slot in missing:
                self._start(slot)
            if self._candidates:
                return
            self._serving = True
            systemd.notify("READY=1")
        self._roll()

    def _roll(self) -> None:
        """Replace the next one of those that SIGHUP is about."""
        if self._candidates:
            return
        if self._rolling:
            self._start(self._rolling.pop(0))
        elif self._replacing:
            self._replacing = False
            systemd.notify("READY=1")

    def _retire(self, worker: _Worker, patience: float) -> None:
        """Have a worker drain and end."""
        self._tell(worker, DRAIN)
        worker.cut_at = min(worker.cut_at, time.monotonic() + patience)

    def _tell(self, worker: _Worker, word: bytes) -> None:
        with contextlib.suppress(OSError):  # it is ending already
            worker.sock.send(word)
        if not worker.ready:
            # It may be importing the application, where it hears nothing; this ends it there.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)

    # ------------------------------------------------------------ ends

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._hear(worker)  # its last words
            self._forget(worker)
            self._on_end(worker, os.waitstatus_to_exitcode(status))
        if self._watcher and os.waitpid(self._watcher, os.WNOHANG)[0]:
            self._watcher = 0
            logger.error("the watcher of files ended; changes are seen no more")

    def _forget(self, worker: _Worker) -> None:
        del self._workers[worker.pid]
        if worker.sock.fileno() >= 0:
            self._selector.unregister(worker.sock)
            worker.sock.close()

    def _on_end(self, worker: _Worker, status: int) -> None:
        slot = worker.slot
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        candidate = self._candidates.get(slot) is worker
        if candidate:
            del self._candidates[slot]
        elif self._slots[slot] is worker:
            self._slots[slot] = None
        else:
            return  # it drained
        if self._stopping:
            return
        if self._watched:
            if self._again:
                self._start(slot)
            else:
                logger.warning("worker %d %s; it starts again when a file changes", worker.pid, how)
        elif not candidate:
            if slot not in self._candidates:
                self._start_again(worker, how)
        elif not self._serving or not any(self._slots):
            logger.critical("worker %d %s before it served", worker.pid, how)
            self._status = 2 if status == 2 else 1
            self._stop()
        elif self._slots[slot] is not None:
            logger.error("worker %d %s before it served; the running workers stay", worker.pid, how)
            self._rolling.clear()
            self._roll()
        else:
            self._start_again(worker, how)

    def _start_again(self, worker: _Worker, how: str) -> None:
        now = time.monotonic()
        delay = 0.0
        if now - worker.since < _SERVED:
            delay = min(max(_FIRST_DELAY, 2 * self._delays[worker.slot]), _LAST_DELAY)
        self._delays[worker.slot] = delay
        self._due[worker.slot] = now + delay
        when = f"in {delay:g} s" if delay else "at once"
        logger.error("worker %d %s; another starts %s", worker.pid, how, when)

    def _next_deadline(self) -> float | None:
        deadlines = [*self._due.values()]
        for worker in self._workers.values():
            deadlines += (worker.cut_at, worker.kill_at)
        nearest = min(deadlines, default=_NEVER)
        return None if nearest == _NEVER else max(0.0, nearest - time.monotonic())

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for slot, due in list(self._due.items()):
            if due <= now:
                self._start(slot)
        for worker in self._workers.values():
            if worker.cut_at <= now:
                self._cut(worker)
            if worker.kill_at <= now:
                logger.error("worker %d does not end and is killed", worker.pid)
                worker.kill_at = _NEVER
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def _cut(self, worker: _Worker) -> None:
        worker.cut_at = _NEVER
        worker.kill_at = min(worker.kill_at, time.monotonic() + _AT_ONCE)
        self._tell(worker, CUT)

    # ------------------------------------------------------------ signals

    def _on_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._waker.recv(256):
                if number == signal.SIGCHLD:
                    self._reap()
                elif number == signal.SIGHUP:
                    self._replace_all()
                else:
                    self._stop()

    def _replace_all(self) -> None:
        if self._stopping:
            return
        if self._watched:
            self._on_change()
            return
        logger.info("Replacing %d workers", len(self._slots))
        systemd.notify(systemd.reloading())
        self._replacing = True
        self._rolling = [slot for slot in range(len(self._slots)) if slot not in self._due]
        if self._serving:
            self._roll()

    def _stop(self) -> None:
        """The first time have all drain, then have them stop at once."""
        if self._stopping:
            for worker in self._workers.values():
                self._cut(worker)
            return
        logger.info("Stopping; a second signal stops at once")
        systemd.notify("STOPPING=1")
        self._stopping = True
        self._rolling.clear()
        self._due.clear()
        for worker in self._workers.values():
            self._retire(worker, self._patience + _BEYOND)

    # ------------------------------------------------------------ files

    def _start_watcher(self) -> None:
        """In a process of its own, for what watches may need threads, which do not go with forks."""
        news, report = os.pipe()
        supervisor = os.getpid()
        pid = self._fork()
        if pid == 0:
            os.close(news)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                watch(self._watched, lambda: os.write(report, b"c"), lambda: os.getppid() == supervisor)
            finally:
                os._exit(0)
        os.close(report)
        self._watcher = pid
        self._news = news
        self._selector.register(news, selectors.EVENT_READ, self._on_news)

    def _on_news(self) -> None:
        if os.read(self._news, 256):
            self._on_change()
        else:
            self._selector.unregister(self._news)

    def _on_change(self) -> None:
        if self._stopping:
            return
        logger.info("A file changed")
        self._again = True
        for worker in self._workers.values():
            self._retire(worker, _RELOAD_GRACE)
        if not self._workers:
            self._start(0)

    def _stop_watcher(self) -> None:
        if self._watcher:
            os.kill(self._watcher, signal.SIGTERM)
            os.waitpid(self._watcher, 0)


def _noted(number: int, frame: object) -> None:
    """The wake-up descriptor carries the signal to the loop."""
