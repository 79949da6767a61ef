"""The lifespan of an ASGI application (ASGI lifespan 2.0)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastchannels.exceptions import UsageError
from fastchannels.server.asgi_scope import Application, single_callable

logger = logging.getLogger("fastchannels.server")


class Lifespan:
    """Runs ``application`` once with a lifespan scope. One that raises on that scope is served without it, unless it
    is ``required``.
    """

    def __init__(self, application: Application, required: bool = False) -> None:
        self._application = single_callable(application)
        self._required = required
        self._refusal: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._to_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answer: asyncio.Future[dict[str, Any] | None]

    async def start(self) -> dict[str, Any] | None:
        """The state that the application filled, or None without lifespan support.

        Raises ``UsageError`` when the application reports a failed startup, or does without a required one.
        """
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        state: dict[str, Any] = {}
        self._task = loop.create_task(self._run(state))
        await self._to_application.put({"type": "lifespan.startup"})
        try:
            answer = await self._answer
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if answer is None:
            self._task = None
            if self._required:
                why = f"it raised {self._refusal!r}" if self._refusal else "it returned"
                raise UsageError(f"the application has no lifespan, which --lifespan on asks for: {why}")
            return None
        if answer["type"] == "lifespan.startup.failed":
            await self._cancel()
            raise UsageError(f"the application failed to start: {answer.get('message') or '(it gives no reason)'}")
        return state

    async def stop(self) -> None:
        """Run the application's shutdown, when its startup ran."""
        if self._task is None or self._task.done():
            return
        self._answer = asyncio.get_running_loop().create_future()
        await self._to_application.put({"type": "lifespan.shutdown"})
        answer = await self._answer
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            logger.error("the application failed to shut down: %s", answer.get("message", ""))
        await asyncio.wait((self._task,), timeout=5)
        await self._cancel()

    async def _cancel(self) -> None:
        """End the application's lifespan."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self, state: dict[str, Any]) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        started = False

        async def send(message: dict[str, Any]) -> None:
            nonlocal started
            kind = message.get("type")
            known = (
                ("lifespan.shutdown.complete", "lifespan.shutdown.failed")
                if started
                else (
                    "lifespan.startup.complete",
                    "lifespan.startup.failed",
                )
            )
            if kind not in known:
                raise ValueError(f"message type {kind!r}: {known[0]} or {known[1]} is expected now")
            started = True
            if not self._answer.done():
                self._answer.set_result(message)

        try:
            await self._application(scope, self._to_application.get, send)
        except Exception as error:
            if started:
                logger.exception("the application raised in its lifespan")
            else:
                # The specification has an application without lifespan raise; it must not fill the log.
                logger.debug("serving without lifespan, for the application raised %r", error)
                self._refusal = error
        if not self._answer.done():
            self._answer.set_result(None)
