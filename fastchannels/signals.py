"""What a worker announces. Receivers run in the worker's own thread.

``consumer_started`` (sender: the worker's class, ``environ``: an empty dict) and ``consumer_finished`` (sender: the
worker's class) stand around each consumer. ``worker_process_ready`` and then ``worker_ready`` (sender: the worker) are
sent once before the first message.

A receiver of ``consumer_finished`` that is connected by an application runs after the held messages have left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import close_old_connections
from django.dispatch import Signal

from fastchannels.channel import pending_message_store

__all__ = ["consumer_finished", "consumer_started", "worker_process_ready", "worker_ready"]

# The receivers of a sender are kept between two sends: these are sent for every message.
consumer_started = Signal(use_caching=True)
consumer_finished = Signal(use_caching=True)
worker_ready = Signal()
worker_process_ready = Signal()


_thread = threading.local()


@contextmanager
def connections_left_open() -> Iterator[None]:
    """Consumers that run in this block and thread keep the connections to the database: a test case owns them."""
    _thread.left_open = True
    try:
        yield
    finally:
        _thread.left_open = False


def _close_old_connections(**kwargs: Any) -> None:
    if not getattr(_thread, "left_open", False):
        close_old_connections()


consumer_started.connect(_close_old_connections)
consumer_started.connect(pending_message_store.prepare)
consumer_finished.connect(_close_old_connections)
consumer_finished.connect(pending_message_store.send_and_flush)
