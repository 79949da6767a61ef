"""Spares Channels 4 consumers the thread hop before each event, where no database connection wants closing.

``channels.db.aclose_old_connections`` runs Django's ``close_old_connections`` in the thread in which ``sync_to_async``
runs database code, on every event of an ``AsyncConsumer``. Mostly that thread has no connection that is due, and the
hop costs more than the event. The function put in its place looks at that thread's connections from where it stands,
and hops only if one of them is due, or if it cannot tell.

What holds: a connection that became due before an event is closed before the event's handler runs. What another
consumer does meanwhile in that thread is not waited for; its own next event sees to its connections.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import django
from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from fastchannels import conf

__all__ = ["install", "uninstall"]

logger = logging.getLogger("fastchannels")

_NAME: Final = "aclose_old_connections"
#: Django's own rule, which ``_due`` foresees in these versions; elsewhere each open connection counts as due.
_RULE: Final = BaseDatabaseWrapper.close_if_unusable_or_obsolete if django.VERSION < (6, 2) else None

_original: Callable[[], Awaitable[None]] | None = None
#: The executor of one thread that was looked into, and that thread's connections by alias: the live mapping.
_looked: tuple[object, dict[str, Any]] | None = None


def install() -> bool:
    """Replace the function in Channels' modules; False, with the reason logged for debugging, where that cannot be."""
    global _original
    if _original is not None:
        return True
    reason = _refusal()
    if reason:
        logger.debug("No fast dispatch for Channels consumers: %s", reason)
        return False
    _original = getattr(sys.modules["channels.db"], _NAME)
    _replace(_original, aclose_old_connections)
    return True


def uninstall() -> None:
    """Put Channels' own function back."""
    global _original, _looked
    if _original is not None:
        _replace(aclose_old_connections, _original)
    _original = _looked = None


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
    if _storage() is None:
        return "this asgiref keeps the connections of a thread in another way"
    return ""


def _replace(old: object, new: object) -> None:
    """Channels' modules import the function by name: those loaded now, and by ``channels.db`` those loaded later."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "channels" and getattr(module, _NAME, None) is old:
            setattr(module, _NAME, new)
