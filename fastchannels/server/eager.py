"""A coroutine that runs at once up to its first wait: most that hand a message to a layer in memory never wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

__all__ = ["Rest", "begin"]


class Rest:
    """What is left of a coroutine that was begun and waits; it is awaited once."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waits_for = self._coroutine, self._waits_for
        go_on: Callable[[Any], Any]
        while True:
            try:
                answer = yield waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                go_on, answer = coroutine.throw, error
            else:
                go_on = coroutine.send
            try:
                waits_for = go_on(answer)
            except StopIteration as end:
                return end.value

    async def run(self) -> Any:
        """For a task."""
        return await self


def begin(coroutine: Coroutine[Any, Any, Any]) -> Rest | None:
    """Run ``coroutine`` up to its first wait; None when it has ended. Raises what it raises.

    Up to there it has no task of its own: nothing that asks for the current one may be awaited.
    """
    try:
        return Rest(coroutine, coroutine.send(None))
    except StopIteration:
        return None
