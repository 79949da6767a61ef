"""Who the client is when proxies stand between: the headers that they write, believed from trusted peers only (D-59).

``X-Forwarded-Host`` is not read: the ``Host`` header stays what the proxy sent, and Django has a setting of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from fastchannels.exceptions import UsageError
from fastchannels.server.events import Headers

Client: TypeAlias = "tuple[str, int | None]"

_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
#: Addresses whose trust is remembered; bounded, because clients choose theirs.
_REMEMBERED: Final = 4096


class TrustedAddresses:
    """Addresses, networks, "unix" for peers on a Unix socket, or "*" for everybody.

    Raises ``UsageError`` for an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._unix = self._all = False
        self._known: dict[str, bool] = {}
        for entry in (part.strip() for parts in entries for part in parts.split(",")):
            if entry == "*":
                self._all = True
            elif entry == "unix":
                self._unix = True
            elif entry:
                try:
                    self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
                except ValueError:
                    raise UsageError(f"forwarded_allow_ips: {entry!r} is no address, network, 'unix' or '*'") from None

    def __contains__(self, host: str | None) -> bool:
        """Whether ``host`` is trusted; ``None`` is the peer on a Unix socket."""
        if self._all:
            return True
        if host is None:
            return self._unix
        known = self._known.get(host)
        if known is None:
            known = self._look_up(host)
            if len(self._known) < _REMEMBERED:
                self._known[host] = known
        return known

    def _look_up(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:  # a socket for both families gives IPv4 peers this form
            address = mapped
        return any(address.version == network.version and address in network for network in self._networks)


class ProxyHeaders:
    """Reads who the client is from ``host_header`` and ``port_header``, and its scheme from ``X-Forwarded-Proto``.

    A ``host_header`` of "Forwarded" is read by RFC 7239, its ``proto`` included.
    """

    def __init__(self, trusted: TrustedAddresses, host_header: str, port_header: str) -> None:
        self._trusted = trusted
        self._host = host_header.lower().encode("latin-1")
        self._port = port_header.lower().encode("latin-1")

    def resolve(self, peer: Client | None, scheme: str, headers: Headers) -> tuple[Client | None, str]:
        """Client and scheme ("http" or "https") of a request that ``peer`` sent over ``scheme``.

        Of a list of addresses, the rightmost that is not trusted is the client: what stands before it is what the
        client itself wrote. An entry that is no address ends the search at the proxy that reported it.
        """
        if (peer[0] if peer else None) not in self._trusted:
            return peer, scheme
        hosts: list[bytes] = []
        schemes: list[bytes] = []
        port = 0
        for name, value in headers:
            if name == self._host:
                if name == b"forwarded":
                    for element in _elements(value):
                        hosts.append(element.get(b"for", b""))
                        schemes.append(element.get(b"proto", b""))
                else:
                    hosts += value.split(b",")
            elif name == self._port:
                port = _port(value.strip())
            elif name == b"x-forwarded-proto" and self._host != b"forwarded":
                schemes += value.split(b",")
        client, depth = peer, 1
        for depth, entry in enumerate(reversed(hosts), 1):  # noqa: B007 - the depth where the search ends
            address = _address(entry.strip())
            if address is None:
                break
            client = (address[0], address[1] or port)
            if address[0] not in self._trusted:
                break
        if schemes:
            # One scheme for each address belongs to that address; otherwise the nearest proxy is believed.
            said = schemes[-depth] if len(schemes) == len(hosts) else schemes[-1]
            scheme = _SCHEMES.get(said.strip().lower().decode("latin-1"), scheme)
        return client, scheme


def _port(value: bytes) -> int:
    """A port, or 0 for what is none."""
    return int(value) if value.isdigit() and len(value) < 6 and int(value) < 65536 else 0


def _address(entry: bytes) -> tuple[str, int] | None:
    """The address and port (0 for none) of ``1.2.3.4``, ``1.2.3.4:5``, ``::1``, ``[::1]`` or ``[::1]:5``."""
    text = entry.decode("latin-1")
    port = ""
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        port = rest[1:]
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    try:
        return str(ipaddress.ip_address(text)), _port(port.encode("latin-1"))
    except ValueError:
        return None


def _elements(value: bytes) -> list[dict[bytes, bytes]]:
    """The elements of a ``Forwarded`` header (RFC 7239 section 4), names in lower case, quotes removed."""
    elements: list[dict[bytes, bytes]] = []
    current: dict[bytes, bytes] = {}
    text = ""
    quoted = escaped = False
    for char in value.decode("latin-1") + ",":
        if escaped:
            text += char
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif quoted or char not in ";,":
            text += char
        else:
            name, _, content = text.partition("=")
            if name.strip():
                current[name.strip().lower().encode("latin-1")] = content.strip().encode("latin-1")
            text = ""
            if char == ",":
                elements.append(current)
                current = {}
    return elements
