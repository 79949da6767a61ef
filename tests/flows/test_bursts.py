"""All clients come back in one instant, as after a restart: nobody is refused as long as workers go on."""

from __future__ import annotations

import re
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.flows.processes import eventually, fetch, free_port
from tests.flows.site import channel_site
from tests.layers import redis_server
from tests.management.commands.project import Project

#: Ten times what a channel holds.
CLIENTS = 1000
PATIENCE = 60.0

CONSUMERS = """
    import threading
    from django.http import HttpResponse
    lock = threading.Lock()
    ended = 0
    def disconnect(message):
        global ended
        with lock:
            ended += 1
    def view(request):
        return HttpResponse(f"ended {ended}")
"""
ROUTING = """
    from fastchannels import route
    channel_routing = [route("websocket.disconnect", "shop.consumers.disconnect")]
"""
URLS = """
    from django.urls import path
    from shop.consumers import view
    urlpatterns = [path("", view)]
"""
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def burst(port: int, request: bytes, stack: ExitStack) -> list[socket.socket]:
    """``CLIENTS`` clients that have sent ``request``."""
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)) for _ in range(CLIENTS)]
    for client in clients:
        client.sendall(request)
    return clients


def statuses(clients: list[socket.socket]) -> Counter[bytes]:
    """What they are answered."""
    return Counter(client.recv(4096).split(b" ", 2)[1] for client in clients)


@pytest.mark.parametrize("kind", ["local", "redis"])
def test_everybody_comes_at_once(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        project = Project(tmp_path)
        if kind == "redis":
            server = stack.enter_context(redis_server.running(tmp_path))
            project.settings(f"""
                CHANNEL_LAYERS["default"] = {{
                    "BACKEND": "fastchannels.layers.redis.RedisChannelLayer", "CONFIG": {{"hosts": [{server.url!r}]}},
                }}
            """)
        project.write("shop/consumers.py", CONSUMERS)
        project.write("shop/routing.py", ROUTING)
        project.write("shop/urls.py", URLS)
        site = stack.enter_context(channel_site(project))
        admin = free_port()
        port = site.server("--no-access-log", "--channel-full-timeout", str(PATIENCE), "--admin", str(admin))

        def waiting(channel: str) -> int:
            found = re.search(
                rf'channel_waiting{{channel="{channel}"}} (\d+)\n', fetch(f"http://127.0.0.1:{admin}/metrics")
            )
            assert found is not None
            return int(found[1])

        with ExitStack() as clients:
            requests, handshakes = burst(port, REQUEST, clients), burst(port, HANDSHAKE, clients)
            for channel in ("http.request", "websocket.connect"):
                eventually(lambda channel=channel: waiting(channel) == CLIENTS - 100, "all others wait", PATIENCE)
            site.worker("--threads", "2")
            assert statuses(handshakes) == {b"101": CLIENTS}
            assert statuses(requests) == {b"200": CLIENTS}
        url = f"http://127.0.0.1:{port}/"
        eventually(lambda: fetch(url) == f"ended {CLIENTS}", "each end was told to a worker", PATIENCE)
        assert waiting("http.request") == waiting("websocket.connect") == waiting("websocket.disconnect") == 0
        assert "drops_total{" not in fetch(f"http://127.0.0.1:{admin}/metrics")
        line = r"wait in line: channel '(\S+)' holds its capacity of 100 .*'channel_capacity'"
        assert {"http.request", "websocket.connect"} <= set(re.findall(line, site.servers[0].output))
