"""Files as bodies of responses, from the kernel to the socket where that can be (ASGI pathsend and zerocopysend)."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

from fastchannels._core.http1 import Http1
from fastchannels.exceptions import ClientDisconnected
from fastchannels.server.http import NO_BODY

if TYPE_CHECKING:
    from fastchannels.server.asgi_http import AsgiHttp

#: Bytes that one call of the system moves, and one piece that is read where it cannot.
_AT_ONCE: Final = 1024 * 1024
_PIECE: Final = 256 * 1024


def open_for_sending(path: str) -> BinaryIO:
    """The file at ``path``. Raises ``OSError``, and ``ValueError`` for what is no file."""
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} is not a file")
    return file


async def send_file(stream: AsgiHttp, fd: int, offset: int | None, count: int | None, more: bool) -> None:
    """Send ``count`` bytes of the file ``fd`` from ``offset`` on as a piece of the body; ``None``: to its end, from
    where it stands.

    Waits until the client took them. Raises ``ClientDisconnected`` when it left, and ``ValueError`` as ``body`` does.
    """
    if offset is None:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
    left = max(os.fstat(fd).st_size - offset, 0)
    if count is not None:
        left = min(left, count)
    connection = stream.connection
    if stream.framing == NO_BODY:
        left = 0
    plain = isinstance(connection, Http1) and connection.fd >= 0 and hasattr(os, "sendfile")
    if plain and stream.framing >= 0 and left > _PIECE:
        # The head, and then nothing but the file between the socket and us.
        stream.check_length(left, True)
        stream.flush()
        await _from_kernel(stream, fd, offset, left)
        stream.size += left
        stream.body(b"", more)
        return
    loop = asyncio.get_running_loop()
    while left:
        piece = await loop.run_in_executor(None, os.pread, fd, min(left, _PIECE), offset)
        if stream.disconnected:
            raise ClientDisconnected("the client left")
        if not piece:
            stream.abort()
            raise ValueError("the file became shorter while it was sent")
        offset += len(piece)
        left -= len(piece)
        stream.body(piece, True)
        await stream.drained()
    stream.body(b"", more)


async def _from_kernel(stream: AsgiHttp, fd: int, offset: int, left: int) -> None:
    connection = stream.connection
    while connection.transport.get_write_buffer_size():  # what was written before goes first
        await _writable(connection.fd)
        await asyncio.sleep(0)
        if stream.disconnected:
            raise ClientDisconnected("the client left")
    while left:
        if stream.disconnected or connection.closed or connection.fd < 0:
            raise ClientDisconnected("the client left")
        try:
            sent = os.sendfile(connection.fd, fd, offset, min(left, _AT_ONCE))
        except BlockingIOError:
            await _writable(connection.fd)
            continue
        except OSError as error:
            stream.abort()
            raise ClientDisconnected("the client left") from error
        if not sent:
            stream.abort()
            raise ValueError("the file became shorter while it was sent")
        offset += sent
        left -= sent
        # Others have their turn, and the connection tells of its end.
        await asyncio.sleep(0)


async def _writable(fd: int) -> None:
    """Wait until the socket takes bytes. The loop watches ``fd`` for its transport, so it watches a duplicate here."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    with socket.socket(fileno=os.dup(fd)) as double:
        loop.add_writer(double, _wake, waiter)
        try:
            await waiter
        finally:
            loop.remove_writer(double)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
