"""A project of a test in channel mode: its server and its workers as processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.flows.processes import Process, eventually, free_port
from tests.management.commands.project import Project

ASGI = """
    import os, django
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings.settings")
    django.setup()
    from fastchannels.asgi import get_channel_layer
    channel_layer = get_channel_layer()
"""


class ChannelSite:
    """Starts and stops the parts of ``project``; what still runs ends with :func:`channel_site`."""

    def __init__(self, project: Project, stack: ExitStack, environment: dict[str, str]) -> None:
        self.project = project
        self.servers: list[Process] = []
        self._stack = stack
        self._environment = environment

    def start(self, *arguments: str) -> Process:
        return self._stack.enter_context(Process(*arguments, cwd=self.project.root, env=self._environment))

    def server(self, *options: str) -> int:
        """A protocol server that listens; its port. The process is ``self.servers[-1]``."""
        port = free_port()
        process = self.start("-m", "fastchannels", "server", "-p", str(port), *options, "shop.asgi:channel_layer")
        self.servers.append(process)
        eventually(lambda: _listens(process, port), "the server listens")
        return port

    def worker(self, *options: str) -> Process:
        """A worker; it need not be ready, for messages wait."""
        return self.start("manage.py", "runworker", *options)


def _listens(process: Process, port: int) -> bool:
    assert process.alive, f"the server ended:\n{process.output}"
    with socket.create_connection(("127.0.0.1", port), 5):
        return True


@contextmanager
def channel_site(project: Project, **environment: str) -> Iterator[ChannelSite]:
    project.write("shop/asgi.py", ASGI)
    with ExitStack() as stack:
        yield ChannelSite(project, stack, environment)
