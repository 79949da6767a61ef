"""The delay server: keeps what comes on ``asgi.delay``, and sends it when its time has come."""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, close_old_connections

from fastchannels.asgi import ChannelLayerWrapper
from fastchannels.delay.models import DelayedMessage
from fastchannels.exceptions import FastChannelsError, UsageError

__all__ = ["Worker"]

logger = logging.getLogger("fastchannels.delay")

#: Where messages that shall be sent later arrive.
CHANNEL = "asgi.delay"
#: Messages that are sent before the server receives again.
BATCH = 1000
#: Seconds after which an idle server looks whether it shall end.
RECEIVE_TIMEOUT = 0.5


class Worker:
    """Runs in the thread that calls :meth:`run`, until ``termed`` or a signal.

    ``database_sleep_duration`` is the seconds between two looks for what is due.
    """

    def __init__(
        self, channel_layer: ChannelLayerWrapper, signal_handlers: bool = True, database_sleep_duration: float = 1
    ) -> None:
        self.channel_layer = channel_layer
        self.signal_handlers = signal_handlers
        self.database_sleep_duration = database_sleep_duration
        #: Set it to end the loop.
        self.termed = False

    def run(self) -> None:
        """Receive, keep and send. What is wrong with one message, or for a while with the database, is logged."""
        if self.signal_handlers and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._terminate)
        logger.info("listening on %s", CHANNEL)
        looked = float("-inf")
        while not self.termed:
            left = looked + self.database_sleep_duration - time.monotonic()
            self._receive(min(RECEIVE_TIMEOUT, max(0.0, left)))
            if time.monotonic() - looked >= self.database_sleep_duration:
                looked = time.monotonic()
                if self._try(self.send_due, "looking for what is due") == BATCH:
                    looked = float("-inf")
        self.channel_layer.close()

    def _terminate(self, *args: Any) -> None:
        self.termed = True

    def _receive(self, timeout: float) -> None:
        try:
            _, content = self.channel_layer.receive_many([CHANNEL], block=timeout > 0, timeout=timeout)
        except FastChannelsError as error:
            logger.error("cannot receive from the channel layer: %s", error)
            time.sleep(RECEIVE_TIMEOUT)
            return
        if content is not None:
            self._try(lambda: self.keep(content), "keeping a message")

    def _try(self, action: Callable[[], Any], what: str) -> Any:
        close_old_connections()
        try:
            return action()
        except (DatabaseError, FastChannelsError) as error:
            logger.error("%s failed: %s: %s", what, type(error).__name__, error)
        finally:
            close_old_connections()

    def keep(self, content: dict[str, Any]) -> DelayedMessage | None:
        """Put the message ``content`` describes into the database. A bad one is logged and left out (D-18)."""
        missing = [key for key in ("channel", "content", "delay") if key not in content]
        if missing:
            logger.error("a message on %s has no %s: it is dropped", CHANNEL, ", ".join(missing))
            return None
        delay = content["delay"]
        if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
            logger.error("a message for %s has a delay of %r ms: it is dropped", content["channel"], delay)
            return None
        try:
            self.channel_layer.check_channel(content["channel"])
            message = DelayedMessage(channel_name=content["channel"])
            message.delay = delay
            message.message = content["content"]
            message.full_clean()
        except (UsageError, ValidationError, OverflowError) as error:
            logger.error("a message for %r cannot be kept: %s: it is dropped", content["channel"], error)
            return None
        message.save()
        return message

    def send_due(self) -> int:
        """Send what is due; how many were sent."""
        sent = 0
        for message in list(DelayedMessage.objects.is_due().order_by("due_date")[:BATCH]):
            if self._try(
                functools.partial(message.send, self.channel_layer), f"sending the delayed message {message.pk}"
            ):
                sent += 1
        return sent
