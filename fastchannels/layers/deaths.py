"""Being told when another process ends, instead of asking for it."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable


class Deaths:
    """A descriptor that is readable once a process ended that is followed, where the system has pidfd_open (Linux 5.3).

    One for all threads and event loops of a process. Any thread may call any method.
    """

    def __init__(self) -> None:
        #: (pid, its start time): its pidfd; None when it has ended, or cannot be watched
        self.watched: dict[tuple[int, int], int | None] = {}
        self._lock = threading.Lock()
        self._poll = None
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            self._poll = select.epoll()

    def fileno(self) -> int:
        """The descriptor; -1 where the system has none, and :meth:`follow` always says False."""
        return -1 if self._poll is None else self._poll.fileno()

    def follow(self, ask: Callable[[], set[tuple[int, int]] | None]) -> bool:
        """Watch those that ``ask()`` names and no others.

        True: all live, and were watched before, so that none can end unnoticed.
        """
        if sys.platform != "linux" or self._poll is None:
            return False
        with self._lock:
            processes = ask()
            told = {fd for fd, _ in self._poll.poll(0)}
            for process, fd in list(self.watched.items()):
                gone = processes is None or process not in processes
                if fd is not None and (gone or fd in told):
                    self._poll.unregister(fd)
                    os.close(fd)
                    self.watched[process] = None
                if gone:
                    del self.watched[process]
            if processes is None:
                return False
            calm = all(self.watched.get(process) is not None for process in processes)
            for process in processes - self.watched.keys():
                try:
                    fd = os.pidfd_open(process[0])
                except OSError:
                    self.watched[process] = None
                else:
                    self.watched[process] = fd
                    self._poll.register(fd, select.EPOLLIN)
            return calm

    def close(self) -> None:
        """Let go of all, as a forked child does too: what its parent watches stays watched."""
        if self._poll is not None:
            self._poll.close()
            self._poll = None
        for fd in self.watched.values():
            if fd is not None:
                os.close(fd)
        self.watched.clear()

    __del__ = close
