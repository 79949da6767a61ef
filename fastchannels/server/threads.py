"""Keeps the threads of synchronous code from one request to the next.

Django's ASGI handler runs synchronous views, middleware and signal receivers in a thread that its request has to itself
(asgiref's ``ThreadSensitiveContext``). asgiref starts it for the request and ends it after, which takes a second thread
to wait for the first. Here the thread goes to a later request instead, as those of a WSGI server do.

What holds: code of one request runs in one thread, and no other code in that thread until the request is over. A thread
that is still busy then is asgiref's to end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final
from weakref import WeakKeyDictionary

#: Idle threads that are kept; further ones end with their request.
KEPT: Final = 32

_NAME: Final = "context_to_thread_executor"

_lock = threading.Lock()
_users = 0
_lent: Threads | None = None
_before: Any = None


class Thread(ThreadPoolExecutor):
    """One thread, which knows whether it has work."""

    def __init__(self) -> None:
        super().__init__(1, "fastchannels-request")
        self._open: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    @property
    def busy(self) -> bool:
        """Something was submitted that is not done."""
        return bool(self._open)


class Threads(WeakKeyDictionary[Any, Executor]):
    """Executor by context, in place of asgiref's own mapping: one that has none is lent one, until it is popped."""

    def __init__(self) -> None:
        super().__init__()
        #: The one that was used last is the next; None when no more are kept.
        self._idle: list[Thread] | None = []

    def __contains__(self, context: object) -> bool:
        if not super().__contains__(context):
            try:
                self[context] = self._idle.pop() if self._idle else Thread()
            except IndexError:  # another thread was faster
                self[context] = Thread()
        return True

    def pop(self, context: Any, *default: Any) -> Any:
        """None, where the thread is kept; an executor that is the caller's to shut down."""
        executor = super().pop(context, *default)
        idle = self._idle
        if isinstance(executor, Thread) and idle is not None and not executor.busy and len(idle) < KEPT:
            idle.append(executor)
            return None
        return executor

    def end(self) -> None:
        """End the idle threads, and keep no more."""
        idle, self._idle = self._idle, None
        for thread in idle or ():
            thread.shutdown(wait=False)


def install() -> bool:
    """Keep threads from now on; False where asgiref is not loaded, or is another than is known here.

    It is one for the process: call :func:`uninstall` as often as this returned true.
    """
    global _users, _lent, _before
    module = sys.modules.get("asgiref.sync")
    owner = getattr(module, "SyncToAsync", None)
    with _lock:
        if _lent is None:
            _before = getattr(owner, _NAME, None)
            if type(_before) is not WeakKeyDictionary:
                return False
            _lent = Threads()
            setattr(owner, _NAME, _lent)
        _users += 1
        return True


def uninstall() -> None:
    """End what :func:`install` began, when the last of its users does."""
    global _users, _lent, _before
    with _lock:
        _users -= 1
        if _users == 0 and _lent is not None:
            owner = sys.modules["asgiref.sync"].SyncToAsync
            if getattr(owner, _NAME) is _lent:
                setattr(owner, _NAME, _before)
            _lent.end()
            _lent = _before = None
