"""The event loop of a worker: its ``async def`` consumers run there side by side, beside the threads of the others.

A place is taken before a message is, and given back when its consumer has ended, so no more than ``limit`` run at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from fastchannels.channel import Frame, pending_message_store
from fastchannels.message import Message
from fastchannels.signals import consumer_finished
from fastchannels.utils import name_that_thing
from fastchannels.watchdog import Running, nothing, watch, where

if TYPE_CHECKING:
    from fastchannels.asgi import ChannelLayerWrapper
    from fastchannels.worker import Worker

__all__ = ["ASYNC_LIMIT", "AsyncConsumers", "AsyncRun"]

logger = logging.getLogger("fastchannels.worker")

#: Async consumers that run at once.
ASYNC_LIMIT = 1000
#: Seconds that cancelled consumers get to clean up.
CANCEL_PATIENCE = 2.0
#: Seconds after a consumer at which the connections are looked at that ``sync_to_async`` left to the database.
TIDY_PAUSE = 1.0


class AsyncConsumers:
    """For any thread. The loop runs, in a daemon thread, from the first consumer to :meth:`stop`."""

    def __init__(self, layer: ChannelLayerWrapper, limit: int = ASYNC_LIMIT) -> None:
        self._layer = layer
        self.limit = limit
        self._free = limit
        self._room = threading.Condition()
        self._ending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The consumers that :meth:`stop` ends are no failures.
        self.stopping = False

    # ------------------------------------------------------------------ places

    def reserve(self, most: int) -> int:
        """Take up to ``most`` places, as many as are free."""
        with self._room:
            taken = max(0, min(most, self._free))
            self._free -= taken
            return taken

    def release(self, places: int = 1) -> None:
        """Give places back. One of a consumer that hangs may be given back before its end."""
        if places:
            with self._room:
                self._free += places
                self._room.notify_all()

    def wait_for_room(self, timeout: float) -> None:
        """Wait until a place is free, ``timeout`` seconds at most."""
        with self._room:
            self._room.wait_for(lambda: self._free > 0, timeout)

    # ------------------------------------------------------------------ the loop

    @property
    def ident(self) -> int | None:
        """The thread of the loop."""
        return None if self._thread is None else self._thread.ident

    def start(self) -> None:
        """Make sure that the loop runs."""
        with self._room:
            if self._thread is None:
                self.stopping = False
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="fastchannels-async-consumers", daemon=True
                )
                self._thread.start()

    def submit(self, run: Callable[[], Coroutine[Any, Any, None]], context: contextvars.Context) -> None:
        """Await ``run()`` on the loop, in ``context``. It raises nothing."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin, run, context=context)

    def _begin(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._tidying is None and self._loop is not None and not self.stopping:
            self._tidying = self._loop.call_later(TIDY_PAUSE, self._tidy)

    def _tidy(self) -> None:
        assert self._loop is not None
        self._tidying = None
        self._loop.create_task(sync_to_async(close_old_connections)())

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            try:
                self._cancel(loop, asyncio.all_tasks(loop))
                loop.run_until_complete(self._layer.layer.close())
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    @staticmethod
    def _cancel(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_PATIENCE))

    async def _settle(self) -> None:
        """Wait for the consumers; what was submitted before has begun by now."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self, timeout: float | None) -> bool:
        """Wait for the consumers, ``timeout`` seconds at most, cancel those that are left, and end the loop.

        Whether none was left. Not from the loop itself, and not while somebody calls :meth:`submit`.
        """
        with self._ending:
            thread, loop = self._thread, self._loop
            if thread is None or loop is None:
                return True
            # A consumer may hold up the loop itself, so its thread is waited for no longer than the tasks.
            settled = asyncio.run_coroutine_threadsafe(self._settle(), loop)
            with contextlib.suppress(concurrent.futures.TimeoutError):
                settled.result(timeout)
            left = len(self._tasks)
            self.stopping = True
            if left:
                logger.error("%d async consumers did not finish within %.1f s: they are cancelled", left, timeout)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(2 * CANCEL_PATIENCE)
            self._thread = self._loop = None
            return not left


class AsyncRun:
    """An async consumer from its call to its end, and the messages that it holds."""

    def __init__(
        self, worker: Worker, message: Message, running: Running, consumer: Callable[..., Any], frame: Frame,
        awaitable: Awaitable[Any],
    ) -> None:  # fmt: skip
        self._worker = worker
        self._message = message
        self._running = running
        self._consumer = consumer
        self._frame = frame
        self._awaitable = awaitable
        self._over = threading.Event()
        #: Taken by who gives the place back: the loop at the end, or the watchdog before.
        self._place = threading.Lock()

    def start(self) -> None:
        """Let the loop have it."""
        worker, running = self._worker, self._running
        worker.async_consumers.start()
        # One that is overdue keeps no other from running any more.
        running.on_slow, running.on_overdue = nothing, self._release
        running.thread, running.awaitable = worker.async_consumers.ident or 0, self._awaitable
        self._frame.thread = running.thread
        # The consumer may outlast the thread's next turns.
        self._frame.replies = None
        context = contextvars.copy_context()
        pending_message_store.release()
        worker.async_consumers.submit(self._run, context)

    def wait(self) -> None:
        """Until the consumer has ended."""
        self._over.wait()

    async def _run(self) -> None:
        worker, message, frame = self._worker, self._message, self._frame
        try:
            try:
                await self._awaitable
            except (SystemExit, KeyboardInterrupt) as error:
                worker.exit = error
            except BaseException as error:
                if worker.async_consumers.stopping and isinstance(error, asyncio.CancelledError):
                    # Not acknowledged: its server sends it again, where its route asks for that.
                    logger.error("consumer %s was cancelled%s", name_that_thing(self._consumer), where(message))
                    return
                if worker.after(error, message, self._consumer, frame):
                    await asyncio.to_thread(worker.settle_retry, message, frame)
            worker.keep_session(message, frame)
            frame.ended = True
            await frame.aflush()
            if consumer_finished.is_heard:
                await asyncio.to_thread(consumer_finished.send_robust, sender=type(worker))
        finally:
            watch.end(self._running)
            self._release()
            self._over.set()

    def _release(self) -> None:
        if self._place.acquire(blocking=False):
            self._worker.async_consumers.release()
