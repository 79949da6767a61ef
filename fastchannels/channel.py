"""Channels and groups as a consumer uses them, and the store that holds what a consumer sends until it ends.

Inside a consumer ``Channel.send`` and ``Group.send`` take a copy of the message and hold it; the worker sends the held
messages in the order of the calls when the consumer has ended, also when it raised. Everywhere else, in other threads
than the consumer's own, and with ``immediately=True``, they send at once. With ``FASTCHANNELS_SEND_ON_COMMIT`` a
message that is sent inside a transaction of the default database waits for its commit too, and goes with a rollback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import transaction

from fastchannels import conf, envelope
from fastchannels.exceptions import ChannelFull, InvalidMessageError, MessageTooLarge

if TYPE_CHECKING:
    from fastchannels.asgi import ChannelLayerWrapper

__all__ = ["Channel", "Group", "PendingMessageStore", "pending_message_store"]

logger = logging.getLogger("fastchannels.worker")

#: Seconds that the messages of one consumer wait, together, for room on full channels.
FLUSH_PATIENCE = 2.0
#: Seconds between two tries.
FLUSH_PAUSE = 0.05

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


class Frame:
    """What one running consumer holds, and what the worker has to tell the protocol server about it."""

    __slots__ = ("answered", "event", "held", "layer", "lost", "reply_channel", "session")

    def __init__(self) -> None:
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
        if self.event is None or self.layer is None or self.reply_channel is None:
            for held in self.held:
                _deliver(held, deadline)
            return
        split = len(self.held)
        while split and self._is_reply(self.held[split - 1]):
            split -= 1
        for held in self.held[:split]:
            _deliver(held, deadline)
        replies = self.held[split:]
        note: dict[str, Any] = {envelope.ACK: self.event, envelope.REPLIES: [held.content for held in replies]}
        if self.session is not None:
            note[envelope.SESSION] = self.session
        if self.lost:
            note[envelope.LOST] = True
        acknowledgement = Held(self.layer, False, self.reply_channel, note)
        try:
            _deliver(acknowledgement, deadline, too_large=False)
        except MessageTooLarge:
            # Each reply fits, for it was checked when it was sent; only together they do not.
            for held in replies:
                _deliver(held, deadline)
            note[envelope.REPLIES] = []
            _deliver(acknowledgement, deadline)

    def _is_reply(self, held: Held) -> bool:
        return not held.is_group and held.name == self.reply_channel and held.layer is self.layer


def _deliver(held: Held, deadline: float, too_large: bool = True) -> None:
    """Send one message; wait for room until ``deadline``, then drop and log. Other failures are logged at once.

    Raises ``MessageTooLarge`` when ``too_large`` is false.
    """
    while True:
        try:
            return held.send()
        except ChannelFull as error:
            if time.monotonic() >= deadline:
                logger.error("a message for channel %s was dropped: %s", held.name, error)
                return
        except Exception as error:
            if isinstance(error, MessageTooLarge) and not too_large:
                raise
            kind = "group" if held.is_group else "channel"
            logger.error("a message for %s %s was dropped: %s", kind, held.name, error, exc_info=True)
            return
        time.sleep(FLUSH_PAUSE)


class PendingMessageStore:
    """Held messages of the consumers that run in this thread, the innermost last (D-28)."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def _frames(self) -> list[Frame]:
        frames: list[Frame] | None = getattr(self._local, "frames", None)
        if frames is None:
            frames = self._local.frames = []
        return frames

    @property
    def active(self) -> bool:
        """Whether a consumer runs in this thread, so that sends are held."""
        return bool(self._frames)

    @property
    def frame(self) -> Frame | None:
        """The frame of the innermost running consumer."""
        frames = self._frames
        return frames[-1] if frames else None

    def prepare(self, **kwargs: Any) -> None:
        """Begin to hold; a receiver of ``consumer_started``."""
        self._frames.append(Frame())

    def send_and_flush(self, **kwargs: Any) -> None:
        """Send what the innermost consumer left; a receiver of ``consumer_finished``. Never raises."""
        frames = self._frames
        if frames:
            frames.pop().flush()


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
