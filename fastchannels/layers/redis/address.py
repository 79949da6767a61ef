"""One Redis: the forms in which CONFIG ``hosts`` names it, and what it takes to open a socket there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import redis.connection
import redis.credentials

from fastchannels import conf
from fastchannels.exceptions import InvalidChannelLayerError

DEFAULT: Final = "redis://localhost:6379"

_TLS_OPTIONS: Final = (
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
)
_OPTIONS: Final = (
    *("host", "port", "path", "unix_socket_path", "db", "username", "password", "credential_provider", "client_name"),
    *("ssl", *_TLS_OPTIONS),
)
#: How redis-py is to keep its connections: taken and left alone, because this layer has connections of its own, which
#: wait and come back by ``reconnect_timeout``.
_OF_REDIS_PY: Final = (
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "socket_read_size"),
    *("retry", "retry_on_timeout", "retry_on_error", "health_check_interval", "max_connections", "timeout"),
    *("protocol", "encoding", "encoding_errors", "lib_name", "lib_version", "driver_info"),
)
_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True)
class Address:
    """One Redis. ``path`` is a Unix socket and wins over host and port; ``tls`` is None for a plain connection."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    client_name: str | None = None
    #: redis-py's ``CredentialProvider``, asked at each login; its ``get_credentials`` from any thread.
    credentials: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """As a URL; a password shows as ``***``."""
        login = f"{self.username or ''}:***@" if self.password is not None else ""
        if self.path is not None:
            return f"unix://{login}{self.path}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.tls is not None else "redis"
        return f"{scheme}://{login}{host}:{self.port}" + (f"/{self.db}" if self.db else "")

    @property
    def name(self) -> str:
        """What tells this Redis from others, however one logs in."""
        return (self.path or f"{self.host}:{self.port}") + (f"/{self.db}" if self.db else "")

    def greeting(self) -> list[tuple[str | int, ...]]:
        """The commands that log in and choose the database. Raises ``ConnectionError`` when the provider fails."""
        if self.credentials is None:
            return self._greeting(None)
        try:
            return self._greeting(self.credentials.get_credentials())
        except Exception as error:
            raise _provider_failed(error) from error

    async def greeting_on_loop(self) -> list[tuple[str | int, ...]]:
        """:meth:`greeting` without stopping the event loop: by ``get_credentials_async``, or in a thread."""
        if self.credentials is None:
            return self._greeting(None)
        # That of redis-py's base class calls the other one, on the loop.
        inherited = getattr(redis.credentials.CredentialProvider, "get_credentials_async", None)
        own = getattr(type(self.credentials), "get_credentials_async", inherited) is not inherited
        try:
            if own:
                return self._greeting(await self.credentials.get_credentials_async())
            return self._greeting(await asyncio.to_thread(self.credentials.get_credentials))
        except Exception as error:
            raise _provider_failed(error) from error

    def _greeting(self, credentials: Iterable[str] | None) -> list[tuple[str | int, ...]]:
        commands: list[tuple[str | int, ...]] = []
        if credentials is not None:
            commands.append(("AUTH", *credentials))
        elif self.password is not None:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.client_name is not None:
            commands.append(("CLIENT", "SETNAME", self.client_name))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands


def _provider_failed(error: Exception) -> ConnectionError:
    return ConnectionError(f"the credential_provider failed: {type(error).__name__}: {error}")


def parse_host(entry: Any) -> Address:
    """A Redis as an entry of CONFIG ``hosts``. Raises ``InvalidChannelLayerError``.

    An entry is a URL (``redis://``, ``rediss://``, ``unix://``), a pair of host and port, ``{"address": URL, ...}`` or
    ``{"host": ..., "port": ..., ...}``; a dict also takes ``db``, ``username``, ``password``, ``credential_provider``,
    ``client_name`` and ``ssl_*``, and what redis-py takes to keep its connections, without effect.
    """
    if isinstance(entry, str):
        return _build(_from_url(entry))
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        return _build({"host": entry[0], "port": entry[1]})
    if isinstance(entry, Mapping):
        options = _known("an entry of hosts", entry, "address")
        url = options.pop("address", None)
        return _build({**(_from_url(url) if url is not None else {}), **options})
    raise InvalidChannelLayerError(
        f"CONFIG option hosts has an entry of type {type(entry).__name__}: give a URL, (host, port) or a dict"
    )


def _from_url(url: Any) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError) as error:
        # Not the URL itself: it may hold a password.
        raise InvalidChannelLayerError(f"CONFIG option hosts has a URL that cannot be used: {error}") from None
    if options.pop("connection_class", None) is redis.connection.SSLConnection:
        options["ssl"] = True
    return _known("the URL in hosts", options)


def _known(where: str, options: Mapping[str, Any], *more: str) -> dict[str, Any]:
    known = [*_OPTIONS, *more]
    conf.reject_unknown_options(where, set(options) - {*known, *_OF_REDIS_PY}, known)
    return {name: value for name, value in options.items() if name in known}


def _build(options: dict[str, Any]) -> Address:
    try:
        address = Address(
            host=str(options.get("host") or "localhost"),
            port=int(options.get("port") or 6379),
            path=options.get("path") or options.get("unix_socket_path"),
            db=int(options.get("db") or 0),
            username=options.get("username"),
            password=options.get("password"),
            tls=_tls(options) if options.get("ssl") else None,
            client_name=options.get("client_name"),
            credentials=options.get("credential_provider"),
        )
        if address.credentials is not None and not callable(getattr(address.credentials, "get_credentials", None)):
            raise ValueError("credential_provider has no method get_credentials")
    except (OSError, ValueError, TypeError) as error:
        raise InvalidChannelLayerError(f"CONFIG option hosts: {error}") from error
    if not 0 < address.port < 65536 or address.db < 0:
        raise InvalidChannelLayerError(f"CONFIG option hosts: port {address.port}, db {address.db} cannot be")
    return address


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
    )
    requirement = options.get("ssl_cert_reqs", "required")
    if isinstance(requirement, str):
        if requirement not in _CERT_REQS:
            raise ValueError(f"ssl_cert_reqs={requirement!r}: one of {', '.join(_CERT_REQS)}")
        requirement = _CERT_REQS[requirement]
    elif requirement is None:
        requirement = ssl.CERT_NONE
    check = options.get("ssl_check_hostname", requirement == ssl.CERT_REQUIRED)
    context.check_hostname = bool(check) and requirement != ssl.CERT_NONE
    context.verify_mode = requirement
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password"))
    if options.get("ssl_min_version") is not None:
        context.minimum_version = ssl.TLSVersion(options["ssl_min_version"])
    if options.get("ssl_ciphers"):
        context.set_ciphers(options["ssl_ciphers"])
    return context
