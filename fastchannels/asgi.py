"""From an alias in Django's settings to a channel layer, in the synchronous API of 2016.

``channel_layer = fastchannels.asgi.get_channel_layer()`` in a project's ``asgi.py`` is what the protocol server and the
workers are started with.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from fastchannels import DEFAULT_CHANNEL_LAYER, conf
from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge

if TYPE_CHECKING:
    from fastchannels.layers.base import ChannelLayer
    from fastchannels.routing import Router, Routing

__all__ = [
    "ChannelLayerManager",
    "ChannelLayerWrapper",
    "InvalidChannelLayerError",
    "channel_layers",
    "get_channel_layer",
]

DEFAULT_BACKEND = "fastchannels.layers.local.LocalChannelLayer"
#: By the package of a BACKEND: what takes the place of layers that others have, in 1.x and in Channels 4.
_IN_PLACE_OF = {
    "asgi_redis": "fastchannels.layers.redis.RedisChannelLayer",
    "channels_redis": "fastchannels.layers.redis.RedisChannelLayer",
    "asgi_ipc": DEFAULT_BACKEND,
    "asgiref": "fastchannels.layers.memory.InMemoryChannelLayer",
    "channels": "fastchannels.layers.memory.InMemoryChannelLayer",
}
_KEYS = ("BACKEND", "CONFIG", "ROUTING", "TEST_CONFIG")


class ChannelLayerWrapper:
    """A layer under its alias: the synchronous methods of 2016, for any thread, and the routing that belongs to it.

    ``layer`` is the layer itself, with the API of Channels 4.
    """

    ChannelFull = ChannelFull
    MessageTooLarge = MessageTooLarge

    def __init__(self, layer: ChannelLayer, alias: str = DEFAULT_CHANNEL_LAYER, routing: Routing | None = None) -> None:
        self.layer = layer
        self.alias = alias
        self._routing = routing
        self._router: Router | None = None
        self._building = threading.Lock()

    @property
    def routing(self) -> Routing | None:
        """What the router is built from. Set it to route anew from the next message on."""
        return self._routing

    @routing.setter
    def routing(self, routing: Routing | None) -> None:
        self._routing = routing
        self._router = None

    @property
    def router(self) -> Router:
        """The router of the alias, built when first asked for: that imports the consumers.

        Raises ``ImproperlyConfigured`` when there is no routing, or some of it cannot be imported.
        """
        if self._router is None:
            from fastchannels.routing import Router

            if self.routing is None:
                raise ImproperlyConfigured(
                    f"the channel layer {self.alias!r} has no routing: "
                    f"set {conf.SETTING_ROUTING} = {{{self.alias!r}: 'project.routing.channel_routing'}}"
                )
            with self._building:
                if self._router is None:
                    self._router = Router(self.routing)
        return self._router

    # ------------------------------------------------------------------ messages

    def send(self, channel: str, message: dict[str, Any]) -> None:
        """Put ``message`` on ``channel`` now. Raises ``ChannelFull``, ``MessageTooLarge`` and what the layer raises."""
        self.layer.send_sync(channel, message)

    def receive(
        self, channels: Sequence[str], block: bool = False, timeout: float | None = None
    ) -> tuple[str, dict[str, Any]] | tuple[None, None]:
        """The next message of any of ``channels`` with its channel's name, or ``(None, None)``.

        With ``block`` it waits for one, ``timeout`` seconds at most when that is given. ``RuntimeError`` in a thread
        with a running event loop, which it would stop (D-13).
        """
        return self.layer.receive_many(channels, block, timeout)

    receive_many = receive

    def encode(self, message: dict[str, Any]) -> bytes:
        """``message`` for :meth:`take_turn`. Raises what :meth:`send` raises for its content."""
        return self.layer.codec.encode(message)

    def take_turn(
        self, channels: Sequence[str], most: int, timeout: float, outgoing: list[tuple[str, bytes]]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Send what is ``outgoing``, as far as there is room, and take up to ``most`` messages of ``channels``."""
        return self.layer.take_turn(channels, most, timeout, outgoing)

    def new_channel(self, pattern: str) -> str:
        """A name that is not in use: ``pattern`` ends in ``?`` (one reader anywhere) or ``!`` (this process)."""
        if pattern.endswith("!"):
            return self.layer.new_local_channel(pattern[:-1])
        if pattern.endswith("?"):
            return pattern + uuid.uuid4().hex
        raise ValueError(f"the pattern of a new channel ends in '?' or '!', not {pattern!r}")

    def carried(self, message: dict[str, Any]) -> dict[str, Any]:
        """``message`` as its reader will get it: an own copy. Raises what :meth:`send` raises for its content."""
        return self.layer.codec.copy(message)

    def check_channel(self, name: str) -> None:
        """Raise ``InvalidNameError`` when no message can be sent to ``name``."""
        self.layer.require_valid_channel_name(name, single_reader=True)

    def check_group(self, name: str) -> None:
        """Raise ``InvalidNameError`` when ``name`` cannot be a group."""
        self.layer.require_valid_group_name(name)

    # ------------------------------------------------------------------ groups

    def group_add(self, group: str, channel: str) -> None:
        """Make ``channel`` a member of ``group``, now."""
        self.layer.group_add_sync(group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        """End the membership of ``channel``, now."""
        self.layer.group_discard_sync(group, channel)

    def send_group(
        self, group: str | Iterable[str], message: dict[str, Any], exclude: str | Iterable[str] = ()
    ) -> None:
        """Put ``message`` on the channel of every member, now; full members are passed over and counted.

        Of several groups each member gets it once, and channels in ``exclude`` do not get it.
        """
        self.layer.group_send_sync(group, message, exclude=exclude)

    group_send = send_group

    # ------------------------------------------------------------------ the rest

    def flush(self) -> None:
        """Remove every message and membership of the layer."""
        self.layer.flush_sync()

    def close(self) -> None:
        """Release what the synchronous methods opened in this thread."""
        self.layer.close_sync()

    def statistics(self) -> dict[str, Any]:
        """Counters of this process since its start."""
        return self.layer.statistics()

    def global_statistics(self) -> dict[str, Any]:
        """Those of them that the draft of 2016 names."""
        return self.layer.global_statistics()

    def channel_statistics(self, channel: str) -> dict[str, Any]:
        """How much waits on ``channel``, as far as the layer can tell, and how often it was full."""
        return self.layer.channel_statistics(channel)

    @property
    def extensions(self) -> list[str]:
        """The features of the layer."""
        return self.layer.extensions

    @property
    def expiry(self) -> float:
        """Seconds that an unread message lives."""
        return self.layer.expiry

    @property
    def group_expiry(self) -> float:
        """Seconds that a membership lives when nothing refreshes it."""
        return self.layer.group_expiry

    @property
    def capacity(self) -> int:
        """Unread messages of one channel, when no pattern says otherwise."""
        return self.layer.capacity

    def __str__(self) -> str:
        return f"{self.alias} ({type(self.layer).__module__}.{type(self.layer).__qualname__})"


class ChannelLayerManager:
    """The layers of ``settings.CHANNEL_LAYERS``, each built once a process when first asked for."""

    def __init__(self) -> None:
        self._layers: dict[str, ChannelLayerWrapper] = {}
        self._lock = threading.RLock()
        setting_changed.connect(self._setting_changed)

    def _setting_changed(self, setting: str, **kwargs: Any) -> None:
        if setting in ("CHANNEL_LAYERS", "INSTALLED_APPS", conf.SETTING_ROUTING):
            with self._lock:
                self._layers.clear()

    @property
    def configs(self) -> Mapping[str, Mapping[str, Any]]:
        """The setting; without it, the layer of this machine."""
        configs: Mapping[str, Mapping[str, Any]] | None = getattr(settings, "CHANNEL_LAYERS", None)
        return configs or {DEFAULT_CHANNEL_LAYER: {"BACKEND": DEFAULT_BACKEND, "CONFIG": {"path": _project_path()}}}

    def __getitem__(self, alias: str) -> ChannelLayerWrapper:
        wrapper = self._layers.get(alias)
        if wrapper is None:
            with self._lock:
                wrapper = self._layers.get(alias)
                if wrapper is None:
                    wrapper = self._layers[alias] = self._build(alias)
        return wrapper

    def __contains__(self, alias: object) -> bool:
        return alias in self.configs

    def set(self, alias: str, wrapper: ChannelLayerWrapper | None) -> ChannelLayerWrapper | None:
        """Put ``wrapper`` under ``alias`` (None: build it anew when next asked for) and return the old one."""
        with self._lock:
            old = self._layers.pop(alias, None)
            if wrapper is not None:
                self._layers[alias] = wrapper
            return old

    def routing(self, alias: str) -> Routing | None:
        """The routing of ``alias``, from ``FASTCHANNELS_ROUTING`` or from ``CHANNEL_LAYERS`` (D-01).

        Raises ``ImproperlyConfigured`` when both are there and differ.
        """
        ours = self._routing_setting().get(alias)
        theirs = self._config(alias).get("ROUTING")
        if theirs is None:
            return ours
        if any(app == "channels" or app.startswith("channels.") for app in settings.INSTALLED_APPS):
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{alias!r}] has ROUTING, which Channels refuses: "
                f"move it to {conf.SETTING_ROUTING} = {{{alias!r}: ...}}"
            )
        if ours is not None and ours != theirs:
            raise ImproperlyConfigured(
                f"{conf.SETTING_ROUTING}[{alias!r}] and CHANNEL_LAYERS[{alias!r}]['ROUTING'] differ: keep one of them"
            )
        routing: Routing = theirs
        return routing

    def check_settings(self) -> None:
        """Raise ``ImproperlyConfigured`` or ``InvalidChannelLayerError`` for settings that contradict themselves."""
        for alias in self.configs:
            self.routing(alias)

    def _routing_setting(self) -> Mapping[str, Routing]:
        setting = getattr(settings, conf.SETTING_ROUTING, None)
        if setting is None:
            return {}
        if not isinstance(setting, Mapping):
            raise ImproperlyConfigured(
                f"{conf.SETTING_ROUTING} is a dict from the alias of a layer to its routing, "
                f"{{'{DEFAULT_CHANNEL_LAYER}': 'project.routing.channel_routing'}}, not {setting!r}"
            )
        for alias in setting:
            if alias not in self.configs:
                raise ImproperlyConfigured(
                    f"{conf.SETTING_ROUTING} names the layer {alias!r}, which CHANNEL_LAYERS does not: "
                    + _choice(alias, self.configs)
                )
        return setting

    def _config(self, alias: str) -> Mapping[str, Any]:
        config = self.configs.get(alias)
        if config is None:
            raise InvalidChannelLayerError(f"CHANNEL_LAYERS has no layer {alias!r}: {_choice(alias, self.configs)}")
        for key in config:
            if key not in _KEYS:
                raise InvalidChannelLayerError(f"CHANNEL_LAYERS[{alias!r}] has a key {key!r}: {_choice(key, _KEYS)}")
        return config

    def make_backend(self, alias: str) -> ChannelLayerWrapper:
        """A new layer of ``alias``, that nobody else gets. Raises what :func:`get_channel_layer` raises."""
        return self._build(alias)

    def make_test_backend(self, alias: str) -> ChannelLayerWrapper:
        """The same from ``TEST_CONFIG`` in place of ``CONFIG``, where there is one."""
        return self._build(alias, "TEST_CONFIG")

    def _build(self, alias: str, options: str = "CONFIG") -> ChannelLayerWrapper:
        from fastchannels.layers.base import ChannelLayer
        from fastchannels.routing import ImportFailure, import_dotted

        config = self._config(alias)
        backend = config.get("BACKEND")
        where = f"CHANNEL_LAYERS[{alias!r}]"
        if backend is None:
            raise InvalidChannelLayerError(f"{where} has no BACKEND: name a layer, such as {DEFAULT_BACKEND!r}")
        known = _IN_PLACE_OF.get(str(backend).partition(".")[0])
        try:
            layer_class = None if known else import_dotted(backend)
        except ImportFailure as failure:
            raise InvalidChannelLayerError(f"{where}: BACKEND {backend!r}: {failure}") from failure.__cause__
        if not (isinstance(layer_class, type) and issubclass(layer_class, ChannelLayer)):
            raise InvalidChannelLayerError(
                f"{where}: BACKEND {backend!r} is not a layer of fastchannels; Channel, Group and workers need one"
                + (f": {known!r} is in its place" if known else "")
            )
        try:
            layer = layer_class(**config.get(options, config.get("CONFIG", {})))
        except InvalidChannelLayerError as error:
            raise InvalidChannelLayerError(f"{where}: {error}") from error
        return ChannelLayerWrapper(layer, alias, self.routing(alias))


def _project_path() -> str:
    """Where the layer of this machine lives when nothing is configured: one place a project, so that two can run."""
    from fastchannels.layers.local import default_path

    project = str(getattr(settings, "BASE_DIR", None) or os.getcwd())
    return f"{default_path()}-{hashlib.sha256(os.path.abspath(project).encode()).hexdigest()[:12]}"


def _choice(wrong: object, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(str(wrong), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(map(repr, names))}."


channel_layers = ChannelLayerManager()


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> ChannelLayerWrapper:
    """The layer of ``alias``. Raises ``InvalidChannelLayerError`` for an alias that is not in ``CHANNEL_LAYERS``."""
    return channel_layers[alias]
