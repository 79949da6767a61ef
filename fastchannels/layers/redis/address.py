"""Where Redis is: the forms of CONFIG ``hosts``, and what it takes to open a socket there."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis.connection

from fastchannels import conf
from fastchannels.exceptions import InvalidChannelLayerError

DEFAULT: Final = "redis://localhost:6379"

_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_OPTIONS: Final = ("host", "port", "path", "db", "username", "password", "ssl", *_TLS_OPTIONS)
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
        """The commands that log in and choose the database."""
        commands: list[tuple[str | int, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands


def parse_hosts(hosts: Any) -> list[Address]:
    """The addresses in CONFIG ``hosts``, a list of entries or nothing. Raises ``InvalidChannelLayerError``.

    An entry is a URL (``redis://``, ``rediss://``, ``unix://``), a pair of host and port, ``{"address": URL, ...}`` or
    ``{"host": ..., "port": ..., ...}``; a dict also takes ``db``, ``username``, ``password`` and ``ssl_*``.
    """
    if not hosts:
        return [parse_host(DEFAULT)]
    if isinstance(hosts, (str, bytes, Mapping)) or not isinstance(hosts, Sequence):
        raise InvalidChannelLayerError(f"CONFIG option hosts is a {type(hosts).__name__}: give a list of entries")
    return [parse_host(entry) for entry in hosts]


def parse_host(entry: Any) -> Address:
    """One entry of :func:`parse_hosts`."""
    if isinstance(entry, str):
        return _build(_from_url(entry))
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        return _build({"host": entry[0], "port": entry[1]})
    if isinstance(entry, Mapping):
        if "sentinels" in entry or "master_name" in entry:
            raise InvalidChannelLayerError(
                "CONFIG option hosts names Sentinels: this version takes one host, give its address"
            )
        options = dict(entry)
        url = options.pop("address", None)
        conf.reject_unknown_options("an entry of hosts", set(options) - set(_OPTIONS), [*_OPTIONS, "address"])
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
    conf.reject_unknown_options("the URL in hosts", set(options) - set(_OPTIONS), _OPTIONS)
    return options


def _build(options: dict[str, Any]) -> Address:
    try:
        address = Address(
            host=str(options.get("host") or "localhost"),
            port=int(options.get("port") or 6379),
            path=options.get("path"),
            db=int(options.get("db") or 0),
            username=options.get("username"),
            password=options.get("password"),
            tls=_tls(options) if options.get("ssl") else None,
        )
    except (OSError, ValueError, TypeError) as error:
        raise InvalidChannelLayerError(f"CONFIG option hosts: {error}") from error
    if not 0 < address.port < 65536 or address.db < 0:
        raise InvalidChannelLayerError(f"CONFIG option hosts: port {address.port}, db {address.db} cannot be")
    return address


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
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
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
