"""What a wheel is tried with where it was built (cibuildwheel.toml): each compiled module, a message through layers."""

import importlib
import pkgutil
import sys
import tempfile
import threading

import fastchannels._core
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer

for module in pkgutil.iter_modules(fastchannels._core.__path__):
    importlib.import_module(f"fastchannels._core.{module.name}")

with tempfile.TemporaryDirectory() as folder:
    layers: list[ChannelLayer] = [InMemoryChannelLayer()]
    if sys.platform != "win32":
        # Also where a socket's path does not fit its address.
        layers += [LocalChannelLayer(path=f"{folder}/{name}") for name in ("short", "long" * 40)]
    for layer in layers:
        sender = threading.Timer(0.2, layer.send_sync, ("jobs", {"n": 1}))  # to a reader that sleeps
        sender.start()
        assert layer.receive_many(["jobs"], block=True, timeout=10) == ("jobs", {"n": 1})
        sender.join()
        layer.close_sync()
        print(f"{type(layer).__name__}: a message came through")
