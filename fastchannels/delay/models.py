"""The messages that wait."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.exceptions import ChannelFull, LayerUnavailable
from fastchannels.layers.codec import Codec

__all__ = ["DelayedMessage"]

logger = logging.getLogger("fastchannels.delay")


class DelayedMessageQuerySet(models.QuerySet["DelayedMessage"]):
    """What a delay server asks for."""

    def is_due(self) -> DelayedMessageQuerySet:
        """Those whose time has come."""
        due: DelayedMessageQuerySet = self.filter(due_date__lte=timezone.now())
        return due


class DelayedMessage(models.Model):
    """One message; ``delay`` is the time from now in milliseconds, ``message`` its content."""

    due_date: models.DateTimeField[Any, Any] = models.DateTimeField(db_index=True)
    channel_name: models.CharField[Any, Any] = models.CharField(max_length=512)
    content: models.BinaryField[Any, Any] = models.BinaryField()

    objects = DelayedMessageQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.channel_name} at {self.due_date:%Y-%m-%d %H:%M:%S}"

    @property
    def delay(self) -> int:
        """Milliseconds from now."""
        left: timedelta = self.due_date - timezone.now()
        return round(left.total_seconds() * 1000)

    @delay.setter
    def delay(self, milliseconds: int) -> None:
        self.due_date = timezone.now() + timedelta(milliseconds=milliseconds)

    @property
    def message(self) -> dict[str, Any]:
        """The content, decoded."""
        return Codec().decode(bytes(self.content))

    @message.setter
    def message(self, content: dict[str, Any]) -> None:
        self.content = Codec().encode(content)

    def send(self, channel_layer: ChannelLayerWrapper | None = None, requeue_delay: int = 1000) -> bool:
        """Send it now, unless another server took it; whether it was sent.

        It is deleted first, so that no second server sends it: a crash in between loses it (D-18). When the channel is
        full or the layer away, it is put back for ``requeue_delay`` milliseconds. ``InvalidPayloadError`` for a row
        that holds no message: it is left.
        """
        layer = channel_layer or channel_layers[DEFAULT_CHANNEL_LAYER]
        content = self.message
        taken, _ = type(self).objects.filter(pk=self.pk).delete()
        if not taken:
            return False
        try:
            layer.send(self.channel_name, content)
        except (ChannelFull, LayerUnavailable) as error:
            logger.warning("a delayed message waits %d ms more: %s", requeue_delay, error)
            self.pk = None
            self.delay = requeue_delay
            self.save(force_insert=True)
            return False
        return True
