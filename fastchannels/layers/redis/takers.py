"""Who waits on one event loop for a message of which ordinary channel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from fastchannels.exceptions import LayerUnavailable

#: A payload, and when it expires by this process's clock.
Taken: TypeAlias = tuple[bytes, float]


class Takers:
    """Callers of :meth:`take` by name, the longest unserved name first; those of one name are served in turn.

    ``changed`` is called when the set of names, or how many wait for one, may have changed. ``keep(name, payload,
    deadline, first)`` gets what nobody waits for any more; ``first``: it goes before what is kept already.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        keep: Callable[[str, bytes, float, bool], None],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._keep = keep
        self._waiting: dict[str, deque[asyncio.Future[Taken]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def __iter__(self) -> Iterator[str]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def counts(self) -> dict[str, int]:
        """How many wait, by name."""
        return {name: len(waiting) for name, waiting in self._waiting.items()}

    async def take(self, name: str) -> bytes:
        """The next payload of ``name``. What a cancelled caller was given goes to the next one in this process."""
        future: asyncio.Future[Taken] = self._loop.create_future()
        self._waiting.setdefault(name, deque()).append(future)
        self._changed()
        try:
            return (await future)[0]
        except asyncio.CancelledError:
            if not future.cancelled() and future.done() and future.exception() is None:
                self.give(name, *future.result(), first=True)
            raise
        finally:
            waiting = self._waiting.get(name)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[name]
                self._changed()

    def give(self, name: str, payload: bytes, deadline: float, first: bool = False) -> None:
        """Serve the first who waits for ``name``, or keep the payload."""
        waiting = self._waiting.get(name)
        while waiting:
            future = waiting.popleft()
            if not waiting:
                del self._waiting[name]
            if not future.done():
                future.set_result((payload, deadline))
                return
        self._keep(name, payload, deadline, first)

    def offer(self, name: str, kept: Callable[[str], Taken | None]) -> None:
        """Give what ``kept(name)`` still hands out, as long as somebody waits for ``name``."""
        while name in self._waiting and (taken := kept(name)) is not None:
            self.give(name, *taken, first=True)
        self._changed()

    def served(self, name: str) -> None:
        """The other names come first from now on."""
        if name in self._waiting:
            self._waiting[name] = self._waiting.pop(name)

    def fail(self, error: LayerUnavailable) -> None:
        """End every wait with ``error``."""
        ended, self._waiting = self._waiting, {}
        for waiting in ended.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(LayerUnavailable(str(error)))
