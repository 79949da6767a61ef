"""What systemd and a service agree on: sockets opened before (sd_listen_fds), and word of the state (sd_notify)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_FIRST = 3  # SD_LISTEN_FDS_START


def activated_sockets(environment: Mapping[str, str] = os.environ) -> dict[int, str]:
    """Descriptor and name of each socket that systemd opened for this process."""
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    return {_FIRST + index: names[index] if index < len(names) else "" for index in range(int(count))}


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell ``state`` (``READY=1``, ``STOPPING=1``) to the manager that asked for it by NOTIFY_SOCKET, if there is one.

    Nothing is raised: a manager that does not listen is no reason not to serve.
    """
    path = environment.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        sender.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)


def reloading() -> str:
    """The state of a service that loads its code again (Type=notify-reload)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
