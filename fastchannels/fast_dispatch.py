"""Spares Channels 4 consumers the thread hop before each event, and the tasks around each message of our layers.

``channels.db.aclose_old_connections`` runs Django's ``close_old_connections`` in the thread in which ``sync_to_async``
runs database code, on every event of an ``AsyncConsumer``. Mostly that thread has no connection that is due, and the
hop costs more than the event. The function put in its place looks at that thread's connections from where it stands,
and hops only if one of them is due, or if it cannot tell.

What holds: a connection that became due before an event is closed before the event's handler runs. What another
consumer does meanwhile in that thread is not waited for; its own next event sees to its connections.

``channels.utils.await_many_dispatch`` makes a task for each message of the layer, and a wait for all tasks around it.
For a consumer that reads a channel of this process from a layer of ours, the function put in its place waits in the
consumer's own task for the layer's wake-up. Events are dispatched one at a time and in the same order; a message that a
consumer does not come to any more stays in its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import django
from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from fastchannels import conf
from fastchannels.layers.base import ChannelLayer

__all__ = ["install", "uninstall"]

logger = logging.getLogger("fastchannels")

_NAME: Final = "aclose_old_connections"
_MANY: Final = "await_many_dispatch"
#: Django's own rule, which ``_due`` foresees in these versions; elsewhere each open connection counts as due.
_RULE: Final = BaseDatabaseWrapper.close_if_unusable_or_obsolete if django.VERSION < (6, 2) else None

_Receive: TypeAlias = Callable[[], Awaitable[Any]]
_Dispatch: TypeAlias = Callable[[Any], Awaitable[None]]

_original: Callable[[], Awaitable[None]] | None = None
_original_many: Callable[[Sequence[_Receive], _Dispatch], Awaitable[None]] | None = None
#: The executor of one thread that was looked into, and that thread's connections by alias: the live mapping.
_looked: tuple[object, dict[str, Any]] | None = None


def install() -> bool:
    """Replace the function in Channels' modules; False, with the reason logged for debugging, where that cannot be."""
    global _original, _original_many
    if _original is not None:
        return True
    reason = _refusal()
    if reason:
        logger.debug("No fast dispatch for Channels consumers: %s", reason)
        return False
    _original = getattr(sys.modules["channels.db"], _NAME)
    _original_many = getattr(sys.modules["channels.utils"], _MANY)
    _replace(_NAME, _original, aclose_old_connections)
    _replace(_MANY, _original_many, await_many_dispatch)
    return True


def uninstall() -> None:
    """Put Channels' own function back."""
    global _original, _original_many, _looked
    if _original is not None:
        _replace(_NAME, aclose_old_connections, _original)
        _replace(_MANY, await_many_dispatch, _original_many)
    _original = _original_many = _looked = None


async def aclose_old_connections() -> None:  # HOT: broadcast, "Channels 4 consumer"
    """Close the connections that are past their age or broken, as Channels' function does, without a hop for none."""
    global _looked
    executor = SyncToAsync.single_thread_executor
    # The order in which sync_to_async looks for its thread: only the last choice is foreseen here.
    plain = (
        SyncToAsync.thread_sensitive_context.get(None) is None
        and asyncio.get_running_loop() not in AsyncToSync.loop_thread_executors
        and getattr(AsyncToSync.executors, "current", None) is None
    )
    if plain and _looked is not None and _looked[0] is executor:
        held = _looked[1]
        for alias in connections:
            if alias in held and _due(held[alias]):
                break
        else:
            return
    elif plain and isinstance(executor, ThreadPoolExecutor) and executor._max_workers == 1:
        if _looked is None:
            # Here and not at the start: commands that run no consumer need not hear of it.
            logger.info(
                "Channels consumers change threads before an event only if a database connection is to be closed "
                "(%s = False turns this off)",
                conf.SETTING_FAST_DISPATCH,
            )
        _looked = executor, await sync_to_async(_close_and_look)()
        return
    await sync_to_async(close_old_connections)()


def _close_and_look() -> dict[str, Any]:
    """In the thread of database code: do its work there, and return the thread's connections by alias."""
    close_old_connections()
    # The attributes of a threading.local, as this thread has them. Django adds its connections to this very dict.
    held: dict[str, Any] = vars(_storage())
    return held


def _storage() -> Any:
    """Where Django keeps the connections of threads that run no event loop; None where its Local is built otherwise."""
    storage = getattr(getattr(connections, "_connections", None), "__dict__", {}).get("_storage")
    return storage if isinstance(storage, threading.local) else None


def _due(connection: Any) -> bool:
    """False if ``close_if_unusable_or_obsolete`` would do nothing to it. Reads only: it belongs to another thread."""
    if connection.connection is None:
        return False
    if type(connection).close_if_unusable_or_obsolete is not _RULE:
        return True
    return bool(
        (connection.close_at is not None and time.monotonic() >= connection.close_at)
        or connection.errors_occurred
        or (connection.health_check_enabled and connection.health_check_done)
        or connection.autocommit != connection.settings_dict["AUTOCOMMIT"]
    )


def await_many_dispatch(consumer_callables: Sequence[_Receive], dispatch: _Dispatch) -> Awaitable[None]:
    """Dispatch what the client and the layer have for a consumer, as Channels' function does."""
    source = _inbox_source(consumer_callables)
    if source is not None:
        return _dispatch_from_inbox(consumer_callables[0], *source, dispatch)
    assert _original_many is not None
    return _original_many(consumer_callables, dispatch)


def _inbox_source(consumer_callables: Sequence[_Receive]) -> tuple[ChannelLayer, str] | None:
    """The layer of ours and the channel of this process that are read beside the client; None for anything else."""
    bound = consumer_callables[1] if len(consumer_callables) == 2 else None
    if not isinstance(bound, functools.partial) or bound.keywords or len(bound.args) != 1:
        return None
    layer = getattr(bound.func, "__self__", None)
    # A layer that somebody derived from ours may receive in another way.
    ours = getattr(bound.func, "__module__", "").startswith("fastchannels.layers.")
    if not isinstance(layer, ChannelLayer) or not ours or not layer.waits_plainly:
        return None
    return (layer, bound.args[0]) if layer.is_readable(bound.args[0]) else None


# HOT: broadcast, "Channels 4 consumer"
async def _dispatch_from_inbox(receive: _Receive, layer: ChannelLayer, channel: str, dispatch: _Dispatch) -> None:
    inbox = layer.inbox

    def wake(_: object) -> None:
        if not ready.done():
            ready.set_result(None)

    ready = layer.wait(channel)
    client = asyncio.ensure_future(receive())
    client.add_done_callback(wake)
    try:
        while True:
            if ready.done() or client.done():
                # Something came during the last dispatch. Others run between two.
                await asyncio.sleep(0)
            else:
                await ready
            if client.done():
                # While it handles this, the layer may still see that the consumer waits for messages.
                inbox.unwait(channel, ready)
                ready = layer.wait(channel)
                await dispatch(client.result())
                client = asyncio.ensure_future(receive())
                client.add_done_callback(wake)
            if ready.done():
                ready.result()
                inbox.unwait(channel, ready)
                message = inbox.take(channel)
                if message is not None:
                    await dispatch(message)
                ready = layer.wait(channel)
    finally:
        inbox.unwait(channel, ready)
        client.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await client


def _refusal() -> str:
    """Why it cannot be installed; empty if it can."""
    if not getattr(settings, conf.SETTING_FAST_DISPATCH, True):
        return f"{conf.SETTING_FAST_DISPATCH} is off"
    if importlib.util.find_spec("channels") is None:
        return "Channels is not installed"
    version = getattr(importlib.import_module("channels"), "__version__", "")
    if not version.startswith("4."):
        return f"Channels {version} is not known"
    module = importlib.import_module("channels.db")
    if getattr(getattr(module, _NAME, None), "__module__", "") != module.__name__:
        return f"channels.db of Channels {version} has no {_NAME} of its own"
    module = importlib.import_module("channels.utils")
    if getattr(getattr(module, _MANY, None), "__module__", "") != module.__name__:
        return f"channels.utils of Channels {version} has no {_MANY} of its own"
    if _storage() is None:
        return "this asgiref keeps the connections of a thread in another way"
    return ""


def _replace(function: str, old: object, new: object) -> None:
    """Channels' modules import a function by name: those loaded now, and by its own module those loaded later."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "channels" and getattr(module, function, None) is old:
            setattr(module, function, new)
