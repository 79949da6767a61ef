"""Channels and groups as a consumer uses them, and the store that holds what a consumer sends until it ends.

Inside a consumer ``Channel.send`` and ``Group.send`` take a copy of the message and hold it; the worker sends the held
messages in the order of the calls when the consumer has ended, also when it raised. Everywhere else, in other threads
than the consumer's own, and with ``immediately=True``, they send at once. With ``FASTCHANNELS_SEND_ON_COMMIT`` a
message that is sent inside a transaction of the default database waits for its commit too, and goes with a rollback.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import transaction

from fastchannels import conf, envelope
from fastchannels.exceptions import ChannelFull, InvalidMessageError, MessageTooLarge
from fastchannels.replies import FLUSH_PATIENCE, FLUSH_PAUSE, Replies

if TYPE_CHECKING:
    from fastchannels.asgi import ChannelLayerWrapper

__all__ = ["Channel", "Group", "PendingMessageStore", "pending_message_store"]

logger = logging.getLogger("fastchannels.worker")

_RESERVED = frozenset(envelope.KEYS)


class Held(NamedTuple):
    """One message that waits for the end of its consumer."""

    layer: ChannelLayerWrapper
    is_group: bool
    #: Of a channel or a group; of several groups a tuple.
    name: Any
    content: dict[str, Any]
    #: Members of a group that get nothing.
    exclude: tuple[str, ...] = ()

    def send(self) -> None:
        """Hand the message to the layer; raises what the layer raises."""
        if self.is_group:
            self.layer.send_group(self.name, self.content, self.exclude)
        else:
            self.layer.send(self.name, self.content)

    async def asend(self) -> None:
        """:meth:`send` on an event loop."""
        if self.is_group:
            await self.layer.layer.group_send(self.name, self.content, exclude=self.exclude)
        else:
            await self.layer.layer.send(self.name, self.content, single_reader=True)


class Frame:
    """What one running consumer holds, and what the worker has to tell the protocol server about it."""

    __slots__ = (
        "answered", "ended", "event", "held", "layer", "lost", "outer", "replies", "reply_channel", "session", "thread",
    )  # fmt: skip

    def __init__(self, outer: Frame | None = None) -> None:
        #: That of the consumer inside which this one runs.
        self.outer = outer
        #: The thread of the consumer: what others send goes out at once.
        self.thread = threading.get_ident()
        #: What is sent now is sent at once.
        self.ended = False
        #: Where answers wait for the worker's next turn; None: they leave with the flush.
        self.replies: Replies | None = None
        self.held: list[Held] = []
        self.layer: ChannelLayerWrapper | None = None
        self.reply_channel: str | None = None
        #: The number of the socket's event that is acknowledged with the flush; None: there is nothing to acknowledge.
        self.event: int | None = None
        #: The changed session of the socket.
        self.session: bytes | None = None
        #: The event is given up, for an earlier worker died with it.
        self.lost = False
        #: Something was sent to the reply channel, held or at once.
        self.answered = False

    def flush(self) -> None:
        """Send everything in the order of the calls, the acknowledgement last. Never raises.

        The replies after the last other send travel inside the acknowledgement: one message for the layer.
        """
        deadline = time.monotonic() + FLUSH_PATIENCE
        others, answer = self._divided()
        if others and self.replies is not None:
            self.replies.send()
        for held in others:
            _deliver(held, deadline)
        try:
            for held in answer:
                self._answer(held, deadline)
        except MessageTooLarge:
            for held in self._apart(answer):
                _deliver(held, deadline)

    async def aflush(self) -> None:
        """:meth:`flush` on an event loop."""
        deadline = time.monotonic() + FLUSH_PATIENCE
        others, answer = self._divided()
        for held in others:
            await _adeliver(held, deadline)
        try:
            for held in answer:
                await _adeliver(held, deadline, too_large=False)
        except MessageTooLarge:
            for held in self._apart(answer):
                await _adeliver(held, deadline)

    def _divided(self) -> tuple[list[Held], list[Held]]:
        """What is sent one by one, and then the replies: in one message with the acknowledgement, if there is one."""
        layer, name = self.layer, self.reply_channel
        if layer is None or name is None:
            return self.held, []
        split = len(self.held)
        while split and self._is_reply(self.held[split - 1]):
            split -= 1
        replies = self.held[split:]
        if self.event is not None:
            note: dict[str, Any] = {envelope.ACK: self.event, envelope.REPLIES: [held.content for held in replies]}
            if self.session is not None:
                note[envelope.SESSION] = self.session
            if self.lost:
                note[envelope.LOST] = True
            replies = [Held(layer, False, name, note)]
        return self.held[:split], replies

    def _apart(self, answer: list[Held]) -> list[Held]:
        """The replies before the acknowledgement: each fits, for it was checked when it was sent."""
        if self.event is None:
            return answer
        note = answer[0].content
        layer, name = answer[0].layer, answer[0].name
        replies = [Held(layer, False, name, content) for content in note[envelope.REPLIES]]
        return [*replies, Held(layer, False, name, {**note, envelope.REPLIES: []})]

    def _answer(self, held: Held, deadline: float) -> None:
        """Raises ``MessageTooLarge``."""
        if self.replies is None:
            _deliver(held, deadline, too_large=False)
            return
        try:
            self.replies.add(held.name, held.content)
        except MessageTooLarge:
            raise
        except Exception as error:
            logger.error("a message for channel %s was dropped: %s", held.name, error, exc_info=True)

    def _is_reply(self, held: Held) -> bool:
        return not held.is_group and held.name == self.reply_channel and held.layer is self.layer


def _deliver(held: Held, deadline: float, too_large: bool = True) -> None:
    """Send one message; wait for room until ``deadline``, then drop and log. Other failures are logged at once.

    Raises ``MessageTooLarge`` when ``too_large`` is false.
    """
    while True:
        try:
            return held.send()
        except Exception as error:
            if not _again(held, error, deadline, too_large):
                return
        time.sleep(FLUSH_PAUSE)


async def _adeliver(held: Held, deadline: float, too_large: bool = True) -> None:
    """:func:`_deliver` on an event loop."""
    while True:
        try:
            return await held.asend()
        except Exception as error:
            if not _again(held, error, deadline, too_large):
                return
        await asyncio.sleep(FLUSH_PAUSE)


def _again(held: Held, error: Exception, deadline: float, too_large: bool) -> bool:
    """Whether to try again after ``error``, which is being handled; else it is logged."""
    if isinstance(error, ChannelFull):
        if time.monotonic() < deadline:
            return True
        logger.error("a message for channel %s was dropped: %s", held.name, error)
        return False
    if isinstance(error, MessageTooLarge) and not too_large:
        raise error
    kind = "group" if held.is_group else "channel"
    logger.error("a message for %s %s was dropped: %s", kind, held.name, error, exc_info=True)
    return False


#: Belongs to a task and to what it starts, or to a thread. Whether it is still to be used is for the store to say.
_innermost: ContextVar[Frame | None] = ContextVar("fastchannels_frame", default=None)


class PendingMessageStore:
    """Held messages of the consumers that run in this thread or, on an event loop, in this task (D-28)."""

    @property
    def active(self) -> bool:
        """Whether a consumer runs here, so that sends are held."""
        return self.frame is not None

    @property
    def frame(self) -> Frame | None:
        """The frame of the innermost running consumer."""
        frame = _innermost.get()
        while frame is not None and (frame.ended or frame.thread != threading.get_ident()):
            frame = frame.outer
        return frame

    def prepare(self, **kwargs: Any) -> None:
        """Begin to hold; a receiver of ``consumer_started``."""
        _innermost.set(Frame(self.frame))

    def send_and_flush(self, **kwargs: Any) -> None:
        """Send what the innermost consumer left; a receiver of ``consumer_finished``. Never raises."""
        frame = self.release()
        if frame is not None:
            frame.ended = True
            frame.flush()

    def release(self) -> Frame | None:
        """Take the innermost frame off this thread; what goes on with a copy of its context keeps it."""
        frame = self.frame
        if frame is not None:
            _innermost.set(frame.outer)
        return frame


pending_message_store = PendingMessageStore()


class _Target:
    """A name on a layer."""

    def __init__(
        self, name: str | bytes, alias: str = "default", channel_layer: ChannelLayerWrapper | None = None
    ) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name
        if channel_layer is None:
            from fastchannels.asgi import channel_layers

            channel_layer = channel_layers[alias]
        self.channel_layer = channel_layer

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Channel(_Target):
    """A channel by name. ``channel_layer`` wins over ``alias``."""

    def send(self, content: dict[str, Any], immediately: bool = False) -> None:
        """Put ``content`` on the channel; inside a consumer it leaves when the consumer ends.

        Raises ``InvalidMessageError`` (a ``TypeError``) for what no layer can carry and ``MessageTooLarge``, in both
        cases now; ``ChannelFull`` and ``LayerUnavailable`` only when it is sent now.
        """
        _check(content)
        frame = pending_message_store.frame
        layer = self.channel_layer
        if frame is not None and self.name == frame.reply_channel:
            frame.answered = True
        if immediately or (frame is None and not _waits_for_commit()):
            if frame is not None and frame.replies is not None:
                frame.replies.send()
            layer.send(self.name, content)
        else:
            layer.check_channel(self.name)
            _hold(Held(layer, False, self.name, layer.carried(content)), frame)


class Group(_Target):
    """A group by name, or several by a list of names. ``channel_layer`` wins over ``alias``."""

    def __init__(
        self,
        name: str | bytes | Iterable[str],
        alias: str = "default",
        channel_layer: ChannelLayerWrapper | None = None,
    ) -> None:
        names = None if isinstance(name, (str, bytes)) else tuple(name)
        super().__init__(name if isinstance(name, (str, bytes)) else ", ".join(names or ()), alias, channel_layer)
        self.names = (self.name,) if names is None else names
        self._to = self.name if names is None else names

    def add(self, channel: Channel | str) -> None:
        """Make ``channel`` a member, now: a later ``send`` reaches it."""
        for name in self.names:
            self.channel_layer.group_add(name, str(channel))

    def discard(self, channel: Channel | str) -> None:
        """End the membership of ``channel``, now."""
        for name in self.names:
            self.channel_layer.group_discard(name, str(channel))

    def send(
        self,
        content: dict[str, Any],
        immediately: bool = False,
        exclude: Channel | str | Iterable[Channel | str] = (),
    ) -> None:
        """Put ``content`` on the channel of each member; inside a consumer it leaves when the consumer ends.

        A member of several of the groups gets it once, channels in ``exclude`` not at all:
        ``exclude=message.reply_channel`` spares the sender its own message.

        Raises ``InvalidMessageError`` (a ``ValueError``) and ``MessageTooLarge`` now; never ``ChannelFull``.
        """
        _check(content)
        excluded = (str(exclude),) if isinstance(exclude, (str, Channel)) else tuple(map(str, exclude))
        frame = pending_message_store.frame
        layer = self.channel_layer
        if immediately or (frame is None and not _waits_for_commit()):
            if frame is not None and frame.replies is not None:
                frame.replies.send()
            layer.send_group(self._to, content, excluded)
        else:
            for name in self.names:
                layer.check_group(name)
            for name in excluded:
                layer.check_channel(name)
            _hold(Held(layer, True, self._to, layer.carried(content), excluded), frame)


def _waits_for_commit() -> bool:
    """A transaction is open, and ``FASTCHANNELS_SEND_ON_COMMIT`` ties messages to it (D-54)."""
    return bool(getattr(settings, conf.SETTING_SEND_ON_COMMIT, False)) and transaction.get_connection().in_atomic_block


def _hold(held: Held, frame: Frame | None) -> None:
    """Keep ``held`` until the consumer of ``frame`` has ended, and until the transaction is committed, if it waits."""
    if not _waits_for_commit():
        assert frame is not None
        frame.held.append(held)
        return

    def committed() -> None:
        if frame is not None and frame is pending_message_store.frame:
            frame.held.append(held)
        else:
            held.send()

    transaction.on_commit(committed)


def _check(content: object) -> None:
    if not isinstance(content, dict):
        raise InvalidMessageError(f"a message is a dict, not {type(content).__name__}: {content!r:.80}")
    if not _RESERVED.isdisjoint(content):
        reserved = ", ".join(sorted(_RESERVED.intersection(content)))
        raise InvalidMessageError(f"a message may not use the reserved key {reserved}")
