"""What the consumers of one worker thread have answered: it leaves with the thread's next look for messages.

So the acknowledgements of many events, and the look for more, cost the layer one step (design section 6).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastchannels.asgi import ChannelLayerWrapper

__all__ = ["FLUSH_PATIENCE", "FLUSH_PAUSE", "Replies"]

logger = logging.getLogger("fastchannels.worker")

#: Seconds that a message of a consumer waits for room on a full channel.
FLUSH_PATIENCE = 2.0
#: Seconds between two tries.
FLUSH_PAUSE = 0.05


class Replies:
    """Messages of one thread for reply channels, in the order of :meth:`add`. Another thread may call :meth:`relieve`.

    Whoever sends something else to the layer from that thread calls :meth:`send` before, so that nothing overtakes.
    """

    def __init__(self, layer: ChannelLayerWrapper) -> None:
        self._layer = layer
        self._waiting: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        #: When the oldest was added.
        self._since = 0.0
        #: When those that find no room are dropped.
        self._patience_ends: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def age(self) -> float:
        """Seconds that the oldest has waited; 0 when there is none."""
        return time.monotonic() - self._since if self._waiting else 0.0

    def add(self, channel: str, message: dict[str, Any]) -> None:
        """Have ``message`` sent. Raises what the layer raises for its content."""
        payload = self._layer.encode(message)
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append((channel, payload))

    # HOT: benchmarks/talk.py
    def turn(self, channels: list[str], most: int, timeout: float) -> list[tuple[str, dict[str, Any]]]:
        """Send them, and take up to ``most`` messages; waits ``timeout`` seconds for one.

        What finds no room stays for the next turn, ``FLUSH_PATIENCE`` seconds at most. Raises what the layer raises.
        """
        with self._lock:
            patience_ends = self._patience_ends
            taken = self._layer.take_turn(
                channels, most, timeout if patience_ends is None else min(timeout, FLUSH_PAUSE), self._waiting
            )
            if not self._waiting:
                self._patience_ends = None
            elif patience_ends is None:
                self._patience_ends = time.monotonic() + FLUSH_PATIENCE
            elif time.monotonic() >= patience_ends:
                for channel, _ in self._waiting:
                    logger.error("a message for channel %s was dropped: there was no room", channel)
                self._waiting.clear()
                self._patience_ends = None
            return taken

    def send(self) -> None:
        """Send them now; waits for room, and then drops and logs. Never raises."""
        while self._waiting:
            try:
                self.turn([], 0, 0.0)
            except Exception as error:
                logger.error("%d messages were dropped: %s", len(self._waiting), error, exc_info=True)
                self._waiting.clear()
            if self._waiting:
                time.sleep(FLUSH_PAUSE)

    def relieve(self) -> None:
        """Send them now from another thread, for their own is busy. Raises what the layer raises."""
        if self._waiting and self._lock.acquire(blocking=False):
            try:
                self._layer.take_turn([], 0, 0.0, self._waiting)
            finally:
                self._lock.release()
