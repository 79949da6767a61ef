"""Several worker processes under the supervisor that also looks after the server's."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastchannels.server.leash import Leash
from fastchannels.server.supervisor import Born, Supervisor

if TYPE_CHECKING:
    from fastchannels.worker import WorkerGroup

__all__ = ["run_processes"]


def run_processes(count: int, shutdown_timeout: float, run: Callable[[], int]) -> int:
    """Run ``run`` in ``count`` processes; the exit status of this one, or of ``run`` in each of those.

    ``run`` calls ``run_workers`` with ``signal_handlers=False``. A process that crashes is replaced; SIGHUP replaces
    them one by one, SIGTERM and SIGINT let running consumers finish, a second one ends all at once.
    """
    try:
        return Supervisor(count, shutdown_timeout).run()
    except Born as born:
        _follow(born.leash)
        return run()


def _follow(leash: Leash) -> None:
    """Let the supervisor, and nobody else, end this process."""
    from fastchannels.signals import worker_process_ready

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

    def ready(sender: WorkerGroup, **kwargs: Any) -> None:
        threading.Thread(target=leash.wait, args=(sender.stop, _cut), name="fastchannels-leash", daemon=True).start()
        leash.tell_ready()

    worker_process_ready.connect(ready, weak=False)


def _cut() -> None:
    os._exit(1)
