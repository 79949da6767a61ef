"""Channels for Django and ASGI. The names of Channels 1.x are here; they are imported when first used.

``import fastchannels`` needs neither Django nor a store: a layer or the server can be used without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastchannels.asgi import channel_layers as channel_layers
    from fastchannels.channel import Channel as Channel
    from fastchannels.channel import Group as Group
    from fastchannels.routing import include as include
    from fastchannels.routing import route as route
    from fastchannels.routing import route_class as route_class

__version__ = "0.1.0"

#: The alias that is used when none is given.
DEFAULT_CHANNEL_LAYER = "default"

_HOMES = {
    "Channel": "channel",
    "Group": "channel",
    "channel_layers": "asgi",
    "include": "routing",
    "route": "routing",
    "route_class": "routing",
}

__all__ = ["DEFAULT_CHANNEL_LAYER", "Channel", "Group", "__version__", "channel_layers", "include", "route"]
__all__ += ["route_class"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("asgiref", "django"):
            raise
        text = f"fastchannels.{name} needs Django: pip install fastchannels[django]"
        raise ModuleNotFoundError(text, name=error.name) from error
    globals()[name] = value
    return value
