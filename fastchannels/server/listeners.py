"""Listening sockets: opened here, for one server or for several processes that share them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastchannels.exceptions import UsageError
from fastchannels.server.endpoints import Endpoint
from fastchannels.server.tls import TlsFiles

_AF_UNIX = getattr(socket, "AF_UNIX", None)
#: For ``create_unix_server``: from Python 3.13 on it would remove files that a manager or other workers use.
UNIX_OPTIONS: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class ListenError(UsageError):
    """The server cannot listen where it was told to; the message is one line for a person."""


@dataclasses.dataclass(frozen=True)
class Listener:
    """A bound socket, and what is spoken on it."""

    sock: socket.socket
    backlog: int
    tls: TlsFiles | None = None
    #: Device and inode of the file of a Unix socket that was made here.
    file: tuple[int, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """``(host, port)``; ``(path, 0)`` of a Unix socket."""
        name = self.sock.getsockname()
        return (name[0], name[1]) if isinstance(name, tuple) else (os.fsdecode(name), 0)

    @property
    def url(self) -> str:
        """Where it is, for a person."""
        host, port = self.address
        if not port:
            return f"unix:{host}"
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def remove_file(self) -> None:
        """Remove the file of a Unix socket, unless another server has put its own there."""
        if self.file is None:
            return
        path, _ = self.address
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == self.file:
                os.unlink(path)


def open_listeners(endpoints: Sequence[Endpoint]) -> list[Listener]:
    """Open all of ``endpoints``, or none. Raises ``ListenError``."""
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            listeners += _open(endpoint)
    except BaseException:
        close_listeners(listeners)
        raise
    if not listeners:
        raise ListenError("nothing to listen on: give a port, a Unix socket, a file descriptor or an endpoint")
    return listeners


def close_listeners(listeners: Iterable[Listener]) -> None:
    """Close the sockets and remove the files of those that were made here."""
    for listener in listeners:
        if listener.sock.fileno() >= 0:
            listener.remove_file()
            listener.sock.close()


def _open(endpoint: Endpoint) -> list[Listener]:
    try:
        if endpoint.fd is not None:
            return [_inherit(endpoint, endpoint.fd)]
        if endpoint.path is not None:
            return [_open_unix(endpoint, endpoint.path)]
        return _open_tcp(endpoint)
    except OSError as error:
        raise ListenError(f"cannot listen on {endpoint}: {error.strerror or error}") from error


def _inherit(endpoint: Endpoint, fd: int) -> Listener:
    """The descriptor stays the caller's; the server works on a copy."""
    sock = socket.socket(fileno=os.dup(fd))
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ListenError(f"cannot listen on {endpoint}: it is no stream socket")
    sock.setblocking(False)
    return Listener(sock, endpoint.backlog, endpoint.tls)


def _open_unix(endpoint: Endpoint, path: str) -> Listener:
    if _AF_UNIX is None:
        raise ListenError(f"cannot listen on {endpoint}: this system has no Unix sockets")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"cannot listen on {endpoint}: the file is there and is no socket")
        if not _is_stale(path):
            raise ListenError(f"cannot listen on {endpoint}: Address already in use, another server answers there")
        os.unlink(path)
    sock = socket.socket(_AF_UNIX)
    try:
        sock.bind(path)
        # Nobody can connect before listen(), so nobody sees the permissions that the umask gave.
        os.chmod(path, endpoint.mode)
        status = os.stat(path)
        sock.listen(endpoint.backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return Listener(sock, endpoint.backlog, endpoint.tls, (status.st_dev, status.st_ino))


def _is_stale(path: str) -> bool:
    """The socket was left by a server that was killed: nobody listens."""
    assert _AF_UNIX is not None
    with socket.socket(_AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # a full queue, or no permission: somebody may be there
        return False


def _open_tcp(endpoint: Endpoint) -> list[Listener]:
    found = socket.getaddrinfo(endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[Listener] = []
    missing: OSError | None = None
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            sock = None
            try:
                sock = socket.socket(family, kind, proto)
                if os.name == "posix":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(endpoint.backlog)
            except OSError as error:
                if sock is not None:
                    sock.close()
                # A name such as localhost may have an IPv6 address where the system has no IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            sock.setblocking(False)
            listeners.append(Listener(sock, endpoint.backlog, endpoint.tls))
            if endpoint.port == 0:
                break  # further families would get other ports
        if missing is not None and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.sock.close()
        raise
    return listeners
