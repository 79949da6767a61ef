"""Workers: they take messages from the layer and run the consumers that the routing names.

Each thread takes its own messages by a blocking pop: one, or, while consumers are fast, as many as take ``BATCH_TIME``.
What they answered leaves with the next pop. A plain consumer runs in that thread, an ``async def`` consumer on the one
event loop of all threads. Nothing that a consumer does ends the worker (D-14).
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from fastchannels import conf, envelope
from fastchannels.asgi import DEFAULT_BACKEND, ChannelLayerWrapper
from fastchannels.async_consumers import ASYNC_LIMIT, AsyncConsumers, AsyncRun
from fastchannels.channel import Frame, Held, pending_message_store
from fastchannels.exceptions import ChannelFull, ChannelSocketException, ConsumeLater, DenyConnection, ResponseLater
from fastchannels.handler import AsgiHandler, server_error
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.message import Message
from fastchannels.replies import Replies
from fastchannels.security.websockets import refused_origin
from fastchannels.sessions import check_settings
from fastchannels.signals import consumer_finished, consumer_started, worker_process_ready, worker_ready
from fastchannels.utils import name_that_thing
from fastchannels.watchdog import Running, watch, where

__all__ = ["Worker", "WorkerGroup", "run_workers"]

logger = logging.getLogger("fastchannels.worker")

#: Seconds that an idle thread waits for a message before it looks whether it shall end.
RECEIVE_TIMEOUT = 0.5
#: Seconds of work, by the slowest of the last consumers, and messages that one pop takes at most.
BATCH_TIME = 0.002
BATCH = 32
#: What is left of the longest run with each that is shorter.
FADING = 0.75
#: Tries, and seconds between them, to put a message back on a full channel.
REQUEUE_TRIES = 10
REQUEUE_PAUSE = 0.05
#: Seconds after which a running consumer is reported.
DEADLINE = 60.0
#: Threads that a group starts in the place of those whose consumers are overdue.
MAX_SUBSTITUTES = 32
#: Seconds between two tries when the layer cannot be read, doubled at each up to the bound.
BACK_OFF = 0.1
BACK_OFF_MAX = 5.0


class Worker:
    """Takes messages one after another, in the thread that calls :meth:`run`.

    ``callback(channel, message)`` is called before each consumer. ``message_retries`` bounds ``ConsumeLater``.
    ``only_channels`` and ``exclude_channels`` are lists of globs. With ``signal_handlers`` (in the main thread) SIGTERM
    and SIGINT let the running consumer finish; a second one ends the process at once. A consumer that runs longer than
    ``deadline`` seconds is reported with its stack, and goes on. ``async_limit`` async consumers run at once.
    """

    def __init__(
        self,
        channel_layer: ChannelLayerWrapper,
        callback: Callable[[str, Message], Any] | None = None,
        message_retries: int = 10,
        signal_handlers: bool = True,
        only_channels: Iterable[str] | None = None,
        exclude_channels: Iterable[str] | None = None,
        deadline: float | None = DEADLINE,
        async_limit: int = ASYNC_LIMIT,
        async_consumers: AsyncConsumers | None = None,
    ) -> None:
        check_settings()
        if async_limit < 1:
            raise ImproperlyConfigured(f"async_limit={async_limit}: at least 1 is needed")
        self.channel_layer = channel_layer
        self.callback = callback
        self.message_retries = message_retries
        self.signal_handlers = signal_handlers
        self.deadline = deadline
        #: Called in the watchdog's thread when a consumer has run past its deadline.
        self.on_overdue: Callable[[Worker], None] | None = None
        self.only_channels = list(only_channels or ())
        self.exclude_channels = list(exclude_channels or ())
        #: Set it to end the loop after the running consumer.
        self.termed = False
        #: Whether a consumer runs.
        self.in_job = False
        self.async_consumers = async_consumers or AsyncConsumers(channel_layer, async_limit)
        self._owns_async_consumers = async_consumers is None
        #: Channels on which a message was for an async consumer.
        self._async_channels: set[str] = set()
        #: Messages that were taken and wait for the one that runs; the watchdog may take them back.
        self._hand: deque[tuple[str, dict[str, Any]]] = deque()
        #: How many the last look took: the hand may be emptier by now.
        self._taken = 0
        self._replies = Replies(channel_layer)
        #: Whether answers wait for the next turn.
        self._in_turns = False
        #: Seconds that the longest of the last consumers ran.
        self._longest = BATCH_TIME
        #: What an async consumer raised to end the worker.
        self.exit: BaseException | None = None

    # ------------------------------------------------------------------ the loop

    def ready(self) -> None:
        """Send ``worker_ready``."""
        worker_ready.send(sender=self)

    def apply_channel_filters(self, channels: Iterable[str]) -> list[str]:
        """The names that pass ``only_channels`` and then ``exclude_channels``, sorted."""
        names = set(channels)
        if self.only_channels:
            names = {name for name in names if _matches(name, self.only_channels)}
        return sorted(name for name in names if not _matches(name, self.exclude_channels))

    def run(self) -> None:
        """Take and handle messages until ``termed``. Only ``SystemExit`` and ``KeyboardInterrupt`` leave it early."""
        channels = self.apply_channel_filters(self.channel_layer.router.channels)
        with _signals(self._terminate) if self.signal_handlers else nullcontext(), watch.watching():
            if self._owns_async_consumers:  # a group has said so for all
                logger.info("listening on %s", ", ".join(channels))
            try:
                self._run(channels)
            finally:
                self._close()

    def _run(self, channels: list[str]) -> None:
        back_off = 0.0
        self._in_turns = True
        while not self.termed:
            if self.exit is not None:
                raise self.exit
            try:
                self._take(channels)
            except Exception as error:
                back_off = min(back_off * 2 or BACK_OFF, BACK_OFF_MAX)
                logger.error(
                    "cannot receive from the channel layer %s: %s: %s; next try in %.1f s",
                    self.channel_layer.alias,
                    type(error).__name__,
                    error,
                    back_off,
                )
                self._wait(back_off)
                continue
            if back_off:
                back_off = 0.0
                logger.info("the channel layer %s can be read again", self.channel_layer.alias)
            if self._hand:
                self.in_job = True
                try:
                    self._work_off()
                finally:
                    self.in_job = False

    # HOT: benchmarks/talk.py
    def _take(self, channels: list[str]) -> None:
        """Send what was answered, and take as many messages into the hand as consumers of late were fast."""
        most = max(1, min(BATCH, int(BATCH_TIME / self._longest)))
        places = self.async_consumers.reserve(most)
        self._taken = 0
        try:
            if places:
                self._look(channels, places)
            else:
                others = [channel for channel in channels if channel not in self._async_channels]
                self._look(others, most if others else 0)
                if not others:
                    self.async_consumers.wait_for_room(RECEIVE_TIMEOUT)
        finally:
            self.async_consumers.release(places - self._taken)

    def _look(self, channels: list[str], most: int) -> None:
        """Take up to ``most`` messages, but one at most of the application's own channels, which runs first.

        Those are in order for a single worker: none may wait in the hand, from where it would be put back.
        """
        own = [channel for channel in channels if channel not in envelope.EVENT_CHANNELS]
        if own and most > 1:
            events = [channel for channel in channels if channel in envelope.EVENT_CHANNELS]
            self._grab(own, 1, 0.0)
            if events:
                self._grab(events, most - 1, 0.0)
            if self._taken:
                return
            most = 1
        self._grab(channels, most, RECEIVE_TIMEOUT)

    def _grab(self, channels: list[str], most: int, timeout: float) -> None:
        taken = self._replies.turn(channels, most, timeout)
        self._hand.extend(taken)
        self._taken += len(taken)

    # HOT: benchmarks/talk.py
    def _work_off(self) -> None:
        """Run the consumers of the messages in the hand."""
        hand, replies = self._hand, self._replies
        while True:
            try:
                channel, content = hand.popleft()
            except IndexError:
                return
            if replies.age > BATCH_TIME:
                replies.send()
            begun = time.monotonic()
            if self._begin(channel, content) is None:
                self.async_consumers.release()
            else:
                self._async_channels.add(channel)
            self._longest = max(time.monotonic() - begun, self._longest * FADING)

    def _relieve(self) -> None:
        """In the watchdog's thread: a consumer takes its time, so what waits for its end must not."""
        self._replies.relieve()
        while True:
            try:
                channel, content = self._hand.popleft()
            except IndexError:
                return
            # Its server hears of it first: it shall not take it for lost when others behind it are done before.
            watch.note(Message(dict(content), channel, self.channel_layer))
            try:
                self.channel_layer.send(channel, content)
            except Exception as error:
                self._hand.appendleft((channel, content))
                logger.warning("a message on %s waits for a consumer that takes its time: %s", channel, error)
                return
            self.async_consumers.release()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.termed and time.monotonic() < until:
            time.sleep(0.05)

    def _terminate(self) -> None:
        if self.termed:
            os._exit(1)
        self.termed = True

    def _overdue(self) -> None:
        if self.on_overdue is not None:
            self.on_overdue(self)

    def _close(self) -> None:
        self._in_turns = False
        self._relieve()
        self._replies.send()
        if self._owns_async_consumers:
            self.async_consumers.stop(None)
        self.channel_layer.close()

    # ------------------------------------------------------------------ one message

    def handle(self, channel: str, content: dict[str, Any]) -> None:
        """Run the consumer of one message to its end, send what it left, and acknowledge the socket's event."""
        running = self._begin(channel, content)
        if running is not None:
            running.wait()
            if self.exit is not None:
                raise self.exit

    # HOT: worker.handle
    def _begin(self, channel: str, content: dict[str, Any]) -> AsyncRun | None:
        """:meth:`handle`, but for an async consumer, which has been begun."""
        message = Message(content, channel, self.channel_layer)
        running = Running(message, self.deadline, self._overdue, self._relieve)
        watch.begin(running)
        run = None
        try:
            match = self._match(message)
            if match is None:
                self._acknowledge(message)
            elif message.redelivered and not self._redelivers(message):
                logger.error("a worker died with a message%s: it is not run again", where(message))
                self._acknowledge(message, lost=True)
            elif channel == "websocket.connect" and (reason := refused_origin(message)):
                logger.warning("a socket of %s is refused: %s", message.get("path"), reason)
                self._acknowledge(message, {"accept": False})
            else:
                run = self._consume(message, running, *match)
        finally:
            if run is None:
                watch.end(running)
        return run

    def _redelivers(self, message: Message) -> bool:
        route = self.channel_layer.router.route_of(message)
        return route is not None and route.redeliver

    def _match(self, message: Message) -> tuple[Callable[..., Any], dict[str, Any]] | None:
        try:
            match = self.channel_layer.router.match(message)
            if match is None:
                logger.error("no route for a message%s: it is dropped", where(message))
            elif self.callback is not None:
                self.callback(message.channel.name, message)
            return match
        except Exception:
            logger.exception("routing a message failed%s: it is dropped", where(message))
            return None

    def _acknowledge(self, message: Message, *replies: dict[str, Any], lost: bool = False) -> None:
        """Let the socket of ``message`` go on with ``replies``, without a consumer."""
        pending_message_store.prepare()
        self._fill_frame(message).lost = lost
        if message.reply_channel is not None:
            for reply in replies:
                message.reply_channel.send(reply)
        pending_message_store.send_and_flush()

    def _fill_frame(self, message: Message) -> Frame:
        frame = pending_message_store.frame
        assert frame is not None, "consumer_started is connected to pending_message_store.prepare"
        frame.layer = self.channel_layer
        frame.reply_channel = None if message.reply_channel is None else message.reply_channel.name
        frame.event = message.event
        # A receiver of an application hears of the end when the held messages have left.
        frame.replies = self._replies if self._in_turns and not consumer_finished.is_heard else None
        return frame

    def _consume(
        self, message: Message, running: Running, consumer: Callable[..., Any], kwargs: dict[str, Any]
    ) -> AsyncRun | None:
        """Run a plain consumer, or begin an async one."""
        retries = message.get("__retries__", 0)
        message.__doomed__ = retries >= self.message_retries
        consumer_started.send_robust(sender=type(self), environ={})
        frame = self._fill_frame(message)
        begun: AsyncRun | None = None
        try:
            result = consumer(message, **kwargs)
            if inspect.isawaitable(result):
                begun = AsyncRun(self, message, running, consumer, frame, result)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self.after(error, message, consumer, frame):
                self.settle_retry(message, frame)
        finally:
            if begun is None:
                self.keep_session(message, frame)
                consumer_finished.send_robust(sender=type(self))
        if begun is not None:
            begun.start()
        return begun

    def keep_session(self, message: Message, frame: Frame) -> None:
        if message.session_changed or message.get("__retries__", 0):
            # After a retry the server does not have what an earlier run saved.
            frame.session = message.session_payload

    def after(self, error: BaseException, message: Message, consumer: Callable[..., Any], frame: Frame) -> bool:
        """Act on what a consumer raised, which is being handled. True: its message is to be put back."""
        if isinstance(error, ConsumeLater):
            if not getattr(settings, conf.SETTING_STRICT_1X, False):
                # Or each run would send them once more (D-65).
                frame.held.clear()
            return True
        if isinstance(error, DenyConnection):
            if message.channel.name == "websocket.connect" and message.reply_channel is not None:
                message.reply_channel.send({"close": True})
            else:
                self._failed(message, consumer, frame)
        elif isinstance(error, ChannelSocketException):
            try:
                error.run(message)
            except Exception:
                self._failed(message, consumer, frame)
        elif not isinstance(error, ResponseLater):
            self._failed(message, consumer, frame)
        return False

    def settle_retry(self, message: Message, frame: Frame) -> None:
        """Put ``message`` back; then its event keeps its place: it is not acknowledged before the last run."""
        if self._put_back(message, message.get("__retries__", 0)):
            frame.event = None

    def _put_back(self, message: Message, retries: int) -> bool:
        """Send ``message`` to its channel once more; False when its retries are spent or there is no room."""
        origin = where(message)
        if retries >= self.message_retries:
            logger.warning("ConsumeLater was raised %d times%s: the message is dropped", retries + 1, origin)
            return False
        content = {**message.content, "__retries__": retries + 1}
        if message.event is not None:
            # The event keeps its place: it is not acknowledged before the last run.
            content[envelope.EVENT] = message.event
            if message.session_payload is not None:
                content[envelope.SESSION] = message.session_payload
        for _ in range(REQUEUE_TRIES):
            try:
                self.channel_layer.send(message.channel.name, content)
                return True
            except ChannelFull:
                time.sleep(REQUEUE_PAUSE)
            except Exception:
                logger.exception("ConsumeLater: cannot put the message back%s: it is dropped", origin)
                return False
        logger.error("ConsumeLater: the channel stayed full%s: the message is dropped", origin)
        return False

    def _failed(self, message: Message, consumer: Callable[..., Any], frame: Frame) -> None:
        """Log the exception that is being handled; a request that nobody answered gets a 500 (D-52).

        A response that was begun is cut, so that its client does not take it for whole (D-36).
        """
        logger.exception("consumer %s failed%s", name_that_thing(consumer), where(message))
        reply = message.reply_channel
        if reply is None:
            return
        if message.channel.name == "http.request" and not frame.answered:
            for part in AsgiHandler.encode_response(server_error()):
                reply.send(part)
        elif self._aborts(message, frame):
            # Of a response that was complete, or a socket that was closed, the server does not hear any more.
            frame.held.append(Held(self.channel_layer, False, reply.name, {envelope.ABORT: True}))

    def _aborts(self, message: Message, frame: Frame) -> bool:
        """Whether the failure of its consumer ends the response, or the socket, of ``message``."""
        if message.channel.name == "http.request":
            return True
        if message.event is None:
            return False
        if message.channel.name == "websocket.connect" and not frame.answered:
            return True  # nobody will answer this handshake any more
        route = self.channel_layer.router.route_of(message)
        return route is not None and route.on_error == "close"


class WorkerGroup(Worker):
    """``n_threads`` workers in threads of their own (default: one a processor); :meth:`run` looks after them.

    ``shutdown_timeout`` is the seconds that running consumers get to finish (D-51). When a consumer is overdue, another
    thread takes the place of its own, which ends with it: so no number of hanging consumers up to ``MAX_SUBSTITUTES``
    stops the other channels.
    """

    def __init__(self, *args: Any, n_threads: int | None = None, shutdown_timeout: float = 30.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kwargs["signal_handlers"] = False
        self._make = functools.partial(Worker, *args, **{**kwargs, "async_consumers": self.async_consumers})
        if n_threads is not None and n_threads < 1:
            raise ImproperlyConfigured(f"threads={n_threads}: at least 1 is needed")
        self.workers = [self._make() for _ in range(n_threads or os.cpu_count() or 1)]
        self.shutdown_timeout = shutdown_timeout
        self._substitutes = 0
        self._threads: list[threading.Thread] = []
        # A SimpleQueue may be written to in a signal handler and in a dying thread.
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def ready(self) -> None:
        """Send ``worker_ready`` for each worker."""
        for worker in self.workers:
            worker.ready()

    def run(self) -> None:
        """Run the workers until a signal comes, :meth:`stop` is called or a consumer raises ``SystemExit``.

        Raises that ``SystemExit``, and ``SystemExit(1)`` when a consumer did not finish in time.
        """
        with _signals(self._terminate) if self.signal_handlers else nullcontext(), watch.watching():
            logger.info(
                "listening on %s; threads: %d; channel layer %s: %s",
                ", ".join(self.apply_channel_filters(self.channel_layer.router.channels)),
                len(self.workers),
                self.channel_layer.alias,
                self.channel_layer.layer,
            )
            for worker in list(self.workers):
                self._start(worker)
            reason = self._await_end()
            logger.info("Stopping; running consumers have %g s, a second signal stops at once", self.shutdown_timeout)
            finished = self.join()
        if reason is not None:
            raise reason
        if not finished:
            raise SystemExit(1)

    def _start(self, worker: Worker) -> None:
        worker.on_overdue = self._substitute
        name = f"fastchannels-worker-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _substitute(self, overdue: Worker) -> None:
        """Start a thread in place of that of ``overdue``, which ends when its consumer does."""
        if self.termed or overdue.termed:
            return
        if self._substitutes >= MAX_SUBSTITUTES:
            logger.error("%d consumers are overdue: no more threads are started in their place", self._substitutes)
            return
        self._substitutes += 1
        overdue.termed = True
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        worker = self._make()
        worker.termed = self.termed
        self.workers.append(worker)
        self._start(worker)

    def _await_end(self) -> BaseException | None:
        while True:
            try:
                # Never without a limit: a signal that comes right before the wait does not end it.
                return self._ended.get(timeout=RECEIVE_TIMEOUT)
            except queue.Empty:
                continue

    def stop(self) -> None:
        """Let :meth:`run` end when the running consumers have ended. For any thread, and for signal handlers."""
        self.termed = True
        for worker in self.workers:
            worker.termed = True
        self._ended.put(None)

    def join(self) -> bool:
        """Wait for the running consumers, ``shutdown_timeout`` at most; whether all have ended."""
        self.stop()
        deadline = time.monotonic() + self.shutdown_timeout
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(min(RECEIVE_TIMEOUT, max(0.0, deadline - time.monotonic())))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            logger.error("%s did not finish within %s s", ", ".join(left), self.shutdown_timeout)
        finished = self.async_consumers.stop(max(0.0, deadline - time.monotonic()))
        return finished and not left

    def _terminate(self) -> None:
        if self.termed:
            os._exit(1)
        self.stop()

    def _work(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:
            if not isinstance(error, (SystemExit, KeyboardInterrupt)):
                logger.critical("a worker thread died", exc_info=True)
            self._ended.put(error if isinstance(error, SystemExit) else SystemExit(1))
        else:
            if worker.termed and not self.termed:
                # Its consumer was overdue, and another thread has its place.
                self._substitutes -= 1
                self.workers.remove(worker)
            else:
                self._ended.put(None)
        finally:
            # Those of this thread, which nobody can use after it.
            connections.close_all()


def run_workers(
    channel_layer: ChannelLayerWrapper,
    *,
    threads: int = 1,
    only_channels: Iterable[str] | None = None,
    exclude_channels: Iterable[str] | None = None,
    callback: Callable[[str, Message], Any] | None = None,
    http_consumer: Callable[..., Any] | None = None,
    shutdown_timeout: float = 30.0,
    deadline: float | None = DEADLINE,
    async_limit: int = ASYNC_LIMIT,
    signal_handlers: bool = True,
) -> None:
    """Run workers in this process, in the main thread, until SIGTERM or SIGINT: what ``runworker`` does.

    Raises ``ImproperlyConfigured`` for a layer that only lives in this process, for missing routing, and when the
    filters leave no channel; ``SystemExit`` as :meth:`WorkerGroup.run` does.
    """
    group = prepare_workers(
        channel_layer,
        http_consumer=http_consumer,
        n_threads=threads,
        only_channels=only_channels,
        exclude_channels=exclude_channels,
        callback=callback,
        shutdown_timeout=shutdown_timeout,
        deadline=deadline,
        async_limit=async_limit,
        signal_handlers=signal_handlers,
    )
    worker_process_ready.send(sender=group)
    group.ready()
    group.run()


def prepare_workers(
    channel_layer: ChannelLayerWrapper,
    *,
    http_consumer: Callable[..., Any] | None = None,
    in_process: bool = False,
    **options: Any,
) -> WorkerGroup:
    """A group with the default routes added. ``in_process``: the protocol server runs in this process too."""
    if isinstance(channel_layer.layer, InMemoryChannelLayer) and not in_process:
        raise ImproperlyConfigured(
            f"the channel layer {channel_layer.alias!r} lives in one process only, so a worker would hear of nothing: "
            f"set BACKEND to {DEFAULT_BACKEND!r} for one machine, or to a Redis layer"
        )
    channel_layer.router.check_default(http_consumer)
    group = WorkerGroup(channel_layer, **options)
    if not group.apply_channel_filters(channel_layer.router.channels):
        raise ImproperlyConfigured(
            "only_channels and exclude_channels leave no channel of the routing, which has "
            + ", ".join(sorted(channel_layer.router.channels))
        )
    return group


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@contextmanager
def _signals(terminate: Callable[[], None]) -> Iterator[None]:
    """Call ``terminate`` at SIGTERM and SIGINT. In other threads than the main one: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *args: terminate()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
