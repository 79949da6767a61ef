r"""Endpoint strings (server.md section 2): ``kind:value:key=value``, with Twisted's kinds, keys and escapes.

A colon, an equals sign or a backslash that belongs to a value has a backslash before it:
``tcp:port=8000:interface=\:\:1``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from fastchannels.exceptions import UsageError
from fastchannels.server.config import Config
from fastchannels.server.tls import TlsFiles


class EndpointError(UsageError):
    """An endpoint string that cannot be understood; the message names the part."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One place to listen: a TCP address, the path of a Unix socket, or an inherited descriptor."""

    host: str = ""  #: all interfaces when empty
    port: int | None = None
    path: str | None = None
    mode: int = 0o666  #: permissions of the Unix socket
    fd: int | None = None
    backlog: int
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        if self.fd is not None:
            return f"file descriptor {self.fd}"
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host or '*'}:{self.port}"


def endpoints_of(config: Config) -> list[Endpoint]:
    """Everywhere that ``config`` says. Raises ``EndpointError``."""
    tls = None
    if config.ssl_certfile is not None:
        tls = TlsFiles(
            certificate=config.ssl_certfile,
            key=config.ssl_keyfile,
            password=config.ssl_keyfile_password,
            client_authorities=config.ssl_ca_certs,
            client_certificate=config.ssl_cert_reqs,
            ciphers=config.ssl_ciphers,
        )
    found = []
    if config.fd is not None:
        found.append(Endpoint(fd=config.fd, backlog=config.backlog, tls=tls))
    if config.uds is not None:
        found.append(Endpoint(path=config.uds, mode=config.uds_mode, backlog=config.backlog, tls=tls))
    if config.port is not None:
        host = config.host.strip("[]")
        found.append(Endpoint(host=host, port=config.port, backlog=config.backlog, tls=tls))
    return found + [parse_endpoint(text, config.backlog) for text in config.endpoints]


#: Kind: its keys. Those before the stroke may be given by position.
_KINDS: Final = {
    "tcp": "port interface | backlog",
    "ssl": "port privateKey certKey | sslmethod interface backlog extraCertChain dhParameters",
    "unix": "address mode | backlog lockfile",
    "fd": "fileno | domain",
    "systemd": "domain index | name",
}


def parse_endpoint(text: str, backlog: int = 2048) -> Endpoint:
    """What ``text`` means. Raises ``EndpointError``."""
    kind, *parts = _split(text)
    if kind[0] is not None or kind[1] not in _KINDS:
        raise EndpointError(f"endpoint {text!r}: {kind[1]!r} is none of {', '.join(_KINDS)}")
    return _Parser(text, kind[1], parts, backlog).endpoint()


class _Parser:
    """The parts of one endpoint string."""

    def __init__(self, text: str, kind: str, parts: list[tuple[str | None, str]], backlog: int) -> None:
        self.text = text
        self.kind = kind
        positional, _, further = _KINDS[kind].partition("|")
        names = positional.split()
        known = names + further.split()
        self.values: dict[str, str] = {}
        for index, (key, value) in enumerate(parts):
            if key is None:
                if index >= len(names):
                    raise self.error(value, f"there are {len(names)} values at most without a key")
                key = names[index]
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1) or [", ".join(known)]
                raise self.error(key, f"{kind} has no such key; did you mean {near[0]}?")
            if key in self.values:
                raise self.error(key, "it is there twice")
            self.values[key] = value
        self.backlog = self.number("backlog", 1) if "backlog" in self.values else backlog

    def error(self, part: str, why: str) -> EndpointError:
        return EndpointError(f"endpoint {self.text!r}: {part!r}: {why}")

    def number(self, key: str, least: int = 0, most: int = 2**31 - 1) -> int:
        """A whole number that must be there."""
        value = self.required(key)
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            raise self.error(f"{key}={value}", f"a whole number from {least} to {most} is needed")
        return int(value)

    def required(self, key: str) -> str:
        if not self.values.get(key):
            raise EndpointError(f"endpoint {self.text!r}: {key}= is missing")
        return self.values[key]

    def endpoint(self) -> Endpoint:
        """What the parts mean together."""
        values, backlog = self.values, self.backlog
        if self.kind == "unix":
            mode = values.get("mode", "666")
            if not mode.isascii() or not mode.isdigit() or len(mode) > 4 or set(mode) & {"8", "9"}:
                raise self.error(f"mode={mode}", "permissions in octal such as 660 are needed")
            return Endpoint(path=self.required("address"), mode=int(mode, 8), backlog=backlog)
        if self.kind == "fd":
            return Endpoint(fd=self.number("fileno"), backlog=backlog)
        if self.kind == "systemd":
            return Endpoint(fd=self.activated(), backlog=backlog)
        tls = None
        if self.kind == "ssl":
            if "sslmethod" in values:
                raise self.error("sslmethod", "TLS 1.2 and newer are spoken, always; leave it out")
            key = self.required("privateKey")
            tls = TlsFiles(
                certificate=values.get("certKey", key),
                key=key,
                chain=values.get("extraCertChain"),
                dh_parameters=values.get("dhParameters"),
            )
        host = values.get("interface", "").strip("[]")
        return Endpoint(host=host, port=self.number("port", 0, 65535), backlog=backlog, tls=tls)

    def activated(self) -> int:
        """The descriptor of a socket that systemd opened; its family is what the socket says, not ``domain``."""
        from fastchannels.server.systemd import activated_sockets

        there = activated_sockets()
        if "name" in self.values:
            named = [fd for fd, name in there.items() if name == self.values["name"]]
            if not named:
                raise self.error(f"name={self.values['name']}", f"systemd gave {self._told(there)}")
            return named[0]
        index = self.number("index")
        if index >= len(there):
            raise self.error(f"index={index}", f"systemd gave {self._told(there)}")
        return list(there)[index]

    @staticmethod
    def _told(there: Mapping[int, str]) -> str:
        if not there:
            return "no sockets: LISTEN_FDS and LISTEN_PID are not for this process"
        return f"{len(there)}: {', '.join(name or 'without a name' for name in there.values())}"


def _split(text: str) -> list[tuple[str | None, str]]:
    """``(key or None, value)`` of each part."""
    parts: list[tuple[str | None, str]] = []
    key: str | None = None
    value: list[str] = []
    for letter, escaped in _letters(text):
        if letter == ":" and not escaped:
            parts.append((key, "".join(value)))
            key, value = None, []
        elif letter == "=" and not escaped and key is None:
            key, value = "".join(value), []
        else:
            value.append(letter)
    parts.append((key, "".join(value)))
    return parts


def _letters(text: str) -> Iterator[tuple[str, bool]]:
    """Each letter, and whether a backslash stood before it."""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            following = next(letters, None)
            if following is None:
                raise EndpointError(f"endpoint {text!r}: the backslash at its end escapes nothing")
            yield following, True
        else:
            yield letter, False
