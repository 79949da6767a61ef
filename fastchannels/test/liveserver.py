"""A test case with a protocol server and workers that a real browser can talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ClassVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test.testcases import TransactionTestCase

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.handler import ViewConsumer
from fastchannels.server.server import Config, Server, new_event_loop
from fastchannels.test.base import layer_in_place
from fastchannels.worker import WorkerGroup

if TYPE_CHECKING:
    import unittest

__all__ = ["ChannelLiveServerTestCase"]

#: Seconds for the server to listen, and for both to stop.
PATIENCE = 30.0


class ChannelLiveServerTestCase(TransactionTestCase):
    """For each test: a server and workers, in threads of this process, on the layer of ``TEST_CONFIG``.

    The layer is flushed first. ``ImproperlyConfigured`` for a database in memory, which each thread would have for
    itself, and for several layers.
    """

    host: ClassVar[str] = "localhost"
    worker_threads: ClassVar[int] = 1
    #: Static files are served as in development, when ``django.contrib.staticfiles`` is installed.
    serve_static: ClassVar[bool] = True

    _address = ""

    @property
    def live_server_url(self) -> str:
        """Such as ``http://localhost:40123``."""
        return f"http://{self._address}"

    @property
    def live_server_ws_url(self) -> str:
        """Such as ``ws://localhost:40123``."""
        return f"ws://{self._address}"

    @classmethod
    def setUpClass(cls) -> None:
        """Check what the tests need."""
        _check_settings()
        super().setUpClass()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test beside the server."""
        layer = channel_layers.make_test_backend(DEFAULT_CHANNEL_LAYER)
        layer.flush()
        layer.router.check_default(http_consumer=self._http_consumer())
        with ExitStack() as running:
            running.enter_context(layer_in_place(DEFAULT_CHANNEL_LAYER, layer))
            port = running.enter_context(_server(layer, self.host))
            running.enter_context(_workers(layer, self.worker_threads))
            self._address = f"{self.host}:{port}"
            return super().run(result)

    def _http_consumer(self) -> ViewConsumer:
        if self.serve_static and apps.is_installed("django.contrib.staticfiles"):
            from fastchannels.staticfiles import StaticFilesConsumer

            return StaticFilesConsumer()
        return ViewConsumer()


def _check_settings() -> None:
    for connection in connections.all():
        if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
            raise ImproperlyConfigured(
                "ChannelLiveServerTestCase cannot use a database in memory: "
                f"give DATABASES[{connection.alias!r}]['TEST'] a NAME of a file"
            )
    if len(channel_layers.configs) > 1:
        names = ", ".join(sorted(channel_layers.configs))
        raise ImproperlyConfigured(f"ChannelLiveServerTestCase serves one layer; CHANNEL_LAYERS has {names}")


@contextmanager
def _server(layer: ChannelLayerWrapper, host: str) -> Iterator[int]:
    """A protocol server in a thread; its port."""
    listening = threading.Event()
    loop = new_event_loop()
    stopping: asyncio.Future[None] = loop.create_future()
    failure: list[BaseException] = []
    port = 0

    async def serve() -> None:
        nonlocal port
        server = Server(Config(host=host, port=0), layer=layer.layer)
        try:
            await server.start()
            port = server.addresses[0][1]
            listening.set()
            await stopping
            await server.stop(0)
        except BaseException as error:
            failure.append(error)
        finally:
            listening.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    thread = threading.Thread(target=run, name="live server", daemon=True)
    thread.start()
    if not listening.wait(PATIENCE):
        raise TimeoutError(f"the live server does not listen after {PATIENCE} s")
    if failure:
        raise failure[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stopping.set_result, None)
        thread.join(PATIENCE)


@contextmanager
def _workers(layer: ChannelLayerWrapper, threads: int) -> Iterator[None]:
    group = WorkerGroup(layer, signal_handlers=False, n_threads=threads, shutdown_timeout=PATIENCE)
    thread = threading.Thread(target=group.run, name="live workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        group.stop()
        thread.join(PATIENCE)
