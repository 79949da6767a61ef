"""Which consumer a message goes to: by its channel, and by regular expressions over keys of its content.

Routes are tried in order and the first match wins. ``route`` names one consumer, ``route_class`` a class with its own
channels, ``include`` a list of routes behind common filters.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from django.core.exceptions import ImproperlyConfigured

from fastchannels.message import Message

__all__ = [
    "Include",
    "Route",
    "RouteClass",
    "Router",
    "connect_consumer",
    "include",
    "null_consumer",
    "route",
    "route_class",
]

Consumer: TypeAlias = Callable[..., Any]
Match: TypeAlias = "tuple[Consumer, dict[str, Any]] | None"


class Matcher(Protocol):
    """What a routing list may hold: the classes below, or an application's own."""

    def match(self, message: Message) -> Match:
        """The consumer and its keyword arguments; None when this is not for it."""

    def channel_names(self) -> set[str]:
        """The channels that it listens on."""


Routing: TypeAlias = "str | Iterable[Matcher] | Mapping[str, Consumer | str]"


class ImportFailure(Exception):
    """A dotted path leads nowhere; the text says which part fails and why."""


def import_dotted(path: str) -> Any:
    """The object that ``path`` (``package.module.name``) names. Raises :exc:`ImportFailure`.

    It tells a module that does not exist from one that exists and fails while it is imported.
    """
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise ImportFailure(f"{path!r} is not a dotted path (package.module.name)")
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise ImportFailure(f"importing {module_path} failed: {type(error).__name__}: {error}") from error
        raise ImportFailure(f"module {error.name} does not exist{_near_module(error.name)}") from error
    except Exception as error:
        raise ImportFailure(f"importing {module_path} failed: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ImportFailure(f"module {module_path} has no {name}{hint}") from error


def _near_module(missing: str) -> str:
    parent, _, name = missing.rpartition(".")
    try:
        paths = importlib.import_module(parent).__path__ if parent else None
    except (ImportError, AttributeError):
        return ""
    near = difflib.get_close_matches(name, [found.name for found in pkgutil.iter_modules(paths)], n=1)
    return f" (did you mean {parent}.{near[0]}?)".replace(" .", " ") if near else ""


def null_consumer(*args: Any, **kwargs: Any) -> None:
    """Do nothing: the default of ``websocket.receive`` and ``websocket.disconnect``."""


def connect_consumer(message: Message, *args: Any, **kwargs: Any) -> None:
    """Accept the socket: the default of ``websocket.connect``."""
    assert message.reply_channel is not None
    message.reply_channel.send({"accept": True})


class Route:
    """``consumer`` for messages of ``channels`` (a name or a list of names) that pass ``filters``.

    ``redeliver``: an event of a socket whose worker died runs again, so the consumer must bear to see one twice;
    without it the event is lost, and counted. ``on_error``: what becomes of the socket when the consumer raises,
    ``"keep"`` or ``"close"`` (with 1011).

    A filter is ``key=pattern``: the pattern must match the start of ``message[key]``; a key that is missing, or None,
    does not match. Named groups become keyword arguments of the consumer. ``consumer`` may be a dotted path.
    Raises ``ImproperlyConfigured`` for a path that leads nowhere, ``ValueError`` for a pattern with unnamed groups.
    """

    def __init__(
        self,
        channels: str | Iterable[str],
        consumer: Consumer | str,
        *,
        redeliver: bool = False,
        on_error: str = "keep",
        **filters: str | bytes,
    ) -> None:
        if on_error not in ("keep", "close"):
            raise ValueError(f"on_error={on_error!r}: a socket is 'keep' or 'close' when its consumer raises")
        self.channels = {channels} if isinstance(channels, str) else set(channels)
        self.redeliver = redeliver
        self.on_error = on_error
        self.filters = _compile(filters)
        self.consumer = self._resolve(consumer)

    def _resolve(self, consumer: Consumer | str) -> Consumer:
        resolved: Any = consumer
        if isinstance(consumer, str):
            where = f"the route of {', '.join(sorted(self.channels))} to {consumer!r}"
            try:
                resolved = import_dotted(consumer)
            except ImportFailure as failure:
                raise ImproperlyConfigured(f"{where}: {failure}") from failure.__cause__
        if not callable(resolved):
            names = ", ".join(sorted(self.channels))
            raise ImproperlyConfigured(f"the route of {names}: {consumer!r} is not callable")
        checked: Consumer = resolved
        return checked

    def match(self, message: Message) -> Match:
        """The consumer and its keyword arguments, or None."""
        if message.channel.name not in self.channels:
            return None
        kwargs: dict[str, Any] = {}
        for key, pattern in self.filters:
            found = _search(pattern, key, message.content)
            if found is None:
                return None
            kwargs.update(found.groupdict())
        return self.consumer, kwargs

    def route_of(self, message: Message) -> Route | None:
        """This route, when it takes ``message``."""
        return None if self.match(message) is None else self

    def channel_names(self) -> set[str]:
        """The channels of this route."""
        return self.channels

    def __str__(self) -> str:
        name = getattr(self.consumer, "__qualname__", repr(self.consumer))
        return f"{'/'.join(sorted(self.channels))} -> {name}"


class RouteClass(Route):
    """A route to a class consumer, whose ``channel_names()`` gives the channels. ``ValueError`` without them."""

    def __init__(self, consumer: Consumer | str, **options: Any) -> None:
        self.channels: set[str] = set()
        resolved = self._resolve(consumer)
        names = getattr(resolved, "channel_names", None)
        if names is None:
            raise ValueError(f"route_class needs a consumer with channel_names(); {resolved!r} has none: use route()")
        super().__init__(names(), resolved, **options)


class Include:
    """The routes of ``routing`` (a list, a dict or a dotted path) for messages that pass all of ``filters``.

    What a filter matched is taken off the front of the value that the inner routes see; the consumer gets the whole
    message. An inner route's keyword argument wins over one of the same name here.
    """

    def __init__(self, routing: Routing, **filters: str | bytes) -> None:
        self.filters = _compile(filters)
        self.routing = Router.resolve_routing(routing)

    def match(self, message: Message) -> Match:
        """The first match of the inner routes, with the groups of this include, or None."""
        kwargs: dict[str, Any] = {}
        inner = self._strip(message, kwargs)
        if inner is not None:
            for matcher in self.routing:
                match = matcher.match(inner)
                if match is not None:
                    consumer, found_kwargs = match
                    return consumer, {**kwargs, **found_kwargs}
        return None

    def route_of(self, message: Message) -> Route | None:
        """The first of the inner routes that takes ``message``."""
        inner = self._strip(message, {})
        return None if inner is None else _route_of(self.routing, inner)

    def _strip(self, message: Message, kwargs: dict[str, Any]) -> Message | None:
        """``message`` as the inner routes see it, None when a filter does not match; groups go to ``kwargs``."""
        if not self.filters:
            return message
        content = dict(message.content)
        for key, pattern in self.filters:
            found = _search(pattern, key, message.content)
            if found is None:
                return None
            kwargs.update(found.groupdict())
            content[key] = found.string[found.end() :]
        return Message(content, message.channel.name, message.channel_layer)

    def channel_names(self) -> set[str]:
        """The channels of all inner routes."""
        return set().union(*(matcher.channel_names() for matcher in self.routing))


class Router:
    """The routing of one layer: ``channels`` is the set of names it listens on."""

    def __init__(self, routing: Routing) -> None:
        self._routes = self.resolve_routing(routing)
        self._index()

    def _index(self) -> None:
        # By channel, in the order of the list, so that a message meets only the routes that can take it.
        self._by_channel: dict[str, list[Matcher]] = {}
        for matcher in self._routes:
            for name in matcher.channel_names():
                self._by_channel.setdefault(name, []).append(matcher)
        self.channels = set(self._by_channel)

    def add_route(self, route: Matcher) -> None:
        """Append ``route``; those before it win."""
        self._routes.append(route)
        self._index()

    def match(self, message: Message) -> Match:
        """The consumer and keyword arguments of the first route that matches, or None."""
        for matcher in self._by_channel.get(message.channel.name, ()):
            match = matcher.match(message)
            if match is not None:
                return match
        return None

    def route_of(self, message: Message) -> Route | None:
        """The route that takes ``message``; None for a matcher of the application's own."""
        return _route_of(self._by_channel.get(message.channel.name, ()), message)

    def check_default(self, http_consumer: Consumer | None = None) -> None:
        """Append the defaults: ``http.request`` to Django's views, a socket accepted and its frames ignored."""
        if http_consumer is None:
            from fastchannels.handler import ViewConsumer

            http_consumer = ViewConsumer()
        self.add_route(Route("http.request", http_consumer))
        self.add_route(Route("websocket.connect", connect_consumer))
        self.add_route(Route(["websocket.receive", "websocket.disconnect"], null_consumer))

    @classmethod
    def resolve_routing(cls, routing: Routing) -> list[Matcher]:
        """A list of routes from a list, a ``{channel: consumer}`` dict, or the dotted path of either."""
        resolved: Any = routing
        if isinstance(routing, str):
            try:
                resolved = import_dotted(routing)
            except ImportFailure as failure:
                raise ImproperlyConfigured(f"cannot import the routing {routing!r}: {failure}") from failure.__cause__
        if isinstance(resolved, Mapping):
            return [Route(channel, consumer) for channel, consumer in resolved.items()]
        if not isinstance(resolved, Iterable) or isinstance(resolved, (str, bytes)):
            raise ImproperlyConfigured(f"routing is a list of routes or a dict, not {resolved!r}")
        matchers = list(resolved)
        for matcher in matchers:
            if not (hasattr(matcher, "match") and hasattr(matcher, "channel_names")):
                raise ImproperlyConfigured(f"routing holds {matcher!r}: use route(), route_class() or include()")
        return matchers

    @classmethod
    def normalise_re_arg(cls, value: str | bytes) -> str:
        """``value`` as text: bytes are ASCII. Raises ``TypeError`` for anything but str and bytes."""
        return _text(value, "a routing pattern")


def _route_of(matchers: Iterable[Matcher], message: Message) -> Route | None:
    for matcher in matchers:
        if matcher.match(message) is not None:
            return matcher.route_of(message) if isinstance(matcher, (Route, Include)) else None
    return None


def _text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise TypeError(f"{what} is text or ASCII bytes, not {type(value).__name__}")


def _compile(filters: Mapping[str, str | bytes]) -> list[tuple[str, re.Pattern[str]]]:
    compiled = []
    for key, value in filters.items():
        pattern = re.compile(_text(value, f"the filter {key}"))
        if pattern.groups != len(pattern.groupindex):
            raise ValueError(f"the filter {key}={value!r} has unnamed groups: name them (?P<name>...) or use (?:...)")
        compiled.append((key, pattern))
    return compiled


def _search(pattern: re.Pattern[str], key: str, content: Mapping[str, Any]) -> re.Match[str] | None:
    value = content.get(key)
    # Present means "not None" (D-24): a frame may carry text and bytes with one of them None.
    if value is None:
        return None
    return pattern.match(value if isinstance(value, str) else _text(value, f"message[{key!r}]"))


route = Route
route_class = RouteClass
include = Include
