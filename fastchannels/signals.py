"""What a worker announces. Receivers run in the worker's own thread.

``consumer_started`` (sender: the worker's class, ``environ``: an empty dict) and ``consumer_finished`` (sender: the
worker's class) stand around each consumer. ``worker_process_ready`` and then ``worker_ready`` (sender: the worker) are
sent once before the first message.

A receiver of ``consumer_finished`` that is connected by an application runs after the held messages have left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import close_old_connections, connections
from django.dispatch import Signal

from fastchannels.channel import pending_message_store

__all__ = ["consumer_finished", "consumer_started", "worker_process_ready", "worker_ready"]

logger = logging.getLogger("fastchannels.worker")

_thread = threading.local()
#: Its attributes in a thread are the connections of that thread; None where Django keeps them in another way.
_storage: Final = getattr(getattr(connections, "_connections", None), "_storage", None)


@contextmanager
def connections_left_open() -> Iterator[None]:
    """Consumers that run in this block and thread keep the connections to the database: a test case owns them."""
    _thread.left_open = True
    try:
        yield
    finally:
        _thread.left_open = False


def _close_old_connections(**kwargs: Any) -> None:
    if getattr(_thread, "left_open", False):
        return
    if isinstance(_storage, threading.local):
        # Asking Django costs more than a socket's event, and most of those leave the database alone.
        for held in vars(_storage).values():
            if getattr(held, "connection", held) is not None:
                break
        else:
            return
    close_old_connections()


class _ConsumerSignal(Signal):
    """Is sent for every message: the receivers of this module are called directly while there are no others."""

    def __init__(self, *own: Callable[..., None]) -> None:
        super().__init__(use_caching=True)
        for receiver in own:
            self.connect(receiver)
        self._own = own
        self._only_own = list(self.receivers)

    @property
    def is_heard(self) -> bool:
        """Whether an application has connected a receiver."""
        return self.receivers != self._only_own

    # HOT: worker.handle
    def send_robust(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """As Django's, but for this module's own receivers, of which nothing is returned."""
        if self.receivers != self._only_own:
            return super().send_robust(sender, **named)
        for receiver in self._own:
            try:
                receiver(signal=self, sender=sender, **named)
            except Exception:
                logger.exception("a receiver of a consumer's signal failed")
        return []


consumer_started = _ConsumerSignal(_close_old_connections, pending_message_store.prepare)
consumer_finished = _ConsumerSignal(_close_old_connections, pending_message_store.send_and_flush)
worker_ready = Signal()
worker_process_ready = Signal()
