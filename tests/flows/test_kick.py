"""The end of a user's right to be there closes the sockets on every server: by ``kick`` and by logout."""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.flows.processes import Process
from tests.flows.site import ChannelSite, channel_site
from tests.management.commands.project import Project

SETTINGS = """
    ALLOWED_HOSTS = ["127.0.0.1"]
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db"}}
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS += ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
    LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/token/"
    MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""
URLS = """
    from django.contrib.auth.views import LoginView, LogoutView
    from django.http import HttpResponse
    from django.middleware.csrf import get_token
    from django.urls import path
    urlpatterns = [
        path("login/", LoginView.as_view()), path("logout/", LogoutView.as_view()),
        path("token/", lambda request: HttpResponse(get_token(request))),
    ]
"""
CONSUMERS = """
    from fastchannels.auth import channel_session_user, channel_session_user_from_http

    @channel_session_user_from_http
    def connect(message):
        message.reply_channel.send({"accept": True})

    @channel_session_user
    def receive(message):
        message.reply_channel.send({"text": str(message.user)})
"""
ROUTING = """
    from fastchannels import route
    channel_routing = [
        route("websocket.connect", "shop.consumers.connect"), route("websocket.receive", "shop.consumers.receive"),
    ]
"""
SETUP = """
    from django.core.management import call_command
    from django.contrib.auth.models import User
    call_command("migrate", verbosity=0)
    User.objects.create_user("ann", password="secret")
    User.objects.create_user("bob", password="secret")
"""
#: What an operator does, in a process that is neither server nor worker.
KICK = """
    import shop.asgi, time
    from django.contrib.auth.models import User
    from fastchannels.auth import kick
    user = User.objects.get(username="ann")
    print("kicked at", time.monotonic())
    kick(user)
"""


class Person:
    """A browser that logged in: its cookies, and its sockets."""

    def __init__(self, name: str, ports: tuple[int, int]) -> None:
        self.ports = ports
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        self.name = name
        self.post("login", username=name, password="secret")
        assert any(cookie.name == "sessionid" for cookie in self.cookies)

    def post(self, what: str, **fields: str) -> None:
        """Send a form of Django's through the first server."""
        base = f"http://127.0.0.1:{self.ports[0]}"
        with self.opener.open(f"{base}/token/", timeout=20) as response:
            fields["csrfmiddlewaretoken"] = response.read().decode()
        data = urllib.parse.urlencode(fields).encode()
        with self.opener.open(f"{base}/{what}/", data, timeout=20) as response:
            assert response.url == f"{base}/token/"

    @contextlib.asynccontextmanager
    async def sockets(self) -> AsyncIterator[list[ClientConnection]]:
        """One on each server, both of which know who it is."""
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        async with contextlib.AsyncExitStack() as stack:
            found = []
            for port in self.ports:
                address = f"ws://127.0.0.1:{port}/"
                headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}"}
                found.append(
                    await stack.enter_async_context(
                        connect(address, additional_headers=headers, open_timeout=20, ping_interval=None)
                    )
                )
            for socket in found:
                assert await said(socket) == self.name
            yield found


async def said(socket: ClientConnection) -> str:
    await socket.send("who am I?")
    return str(await asyncio.wait_for(socket.recv(), 20))


async def closing(socket: ClientConnection) -> tuple[int, float]:
    """The code with which ``socket`` is closed, and when."""
    with contextlib.suppress(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 30)
        raise AssertionError("a message came")
    assert socket.close_code is not None
    return socket.close_code, time.monotonic()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChannelSite, tuple[int, int]]]:
    project = Project(tmp_path_factory.mktemp("kick"))
    project.settings(SETTINGS)
    for name, text in {"urls": URLS, "consumers": CONSUMERS, "routing": ROUTING, "setup": SETUP, "kick": KICK}.items():
        project.write(f"shop/{name}.py", text)
    with channel_site(project) as site:
        with Process("-c", "import shop.asgi, shop.setup", cwd=project.root) as process:
            assert process.wait(60) == 0, process.output
        ports = site.server("-v", "0"), site.server("-v", "0")
        site.worker("--threads", "2")
        yield site, ports


async def test_a_kick_from_another_process_closes_the_sockets_on_both_servers(
    site: tuple[ChannelSite, tuple[int, int]],
) -> None:
    ann = await asyncio.to_thread(Person, "ann", site[1])
    bob = await asyncio.to_thread(Person, "bob", site[1])
    async with ann.sockets() as hers, bob.sockets() as his:
        waiting = [asyncio.create_task(closing(socket)) for socket in hers]
        with Process("-c", "import shop.asgi, shop.kick", cwd=site[0].project.root) as process:
            assert await asyncio.to_thread(process.wait, 30) == 0, process.output
            kicked = float(process.wait_for(r"kicked at ([\d.]+)")[1])
        for code, when in await asyncio.gather(*waiting):
            assert code == 3000
            assert when - kicked < 1.0
        for socket in his:
            assert await said(socket) == "bob"


async def test_a_logout_closes_the_sockets_of_that_session_on_both_servers(
    site: tuple[ChannelSite, tuple[int, int]],
) -> None:
    here = await asyncio.to_thread(Person, "ann", site[1])
    elsewhere = await asyncio.to_thread(Person, "ann", site[1])
    async with here.sockets() as ending, elsewhere.sockets() as staying:
        waiting = [asyncio.create_task(closing(socket)) for socket in ending]
        await asyncio.to_thread(here.post, "logout")
        answered = time.monotonic()
        for code, when in await asyncio.gather(*waiting):
            assert code == 3000
            assert when - answered < 1.0
        for socket in staying:
            assert await said(socket) == "ann"
