import asyncio

import pytest
from django.test import override_settings
from websockets.asyncio.client import connect

from fastchannels.asgi import channel_layers
from fastchannels.channel import Group
from fastchannels.routing import route
from fastchannels.test import ChannelLiveServerTestCase
from tests.management.commands.project import Project
from tests.test.test_base import passed, run

MEMORY = {"BACKEND": "fastchannels.layers.memory.InMemoryChannelLayer"}


def accept(message):
    message.reply_channel.send({"accept": True})
    Group("all").add(message.reply_channel)


def echo(message):
    Group("all").send({"text": message["text"].upper()})


ROUTES = [route("websocket.connect", accept), route("websocket.receive", echo)]


def test_a_database_in_memory_is_refused(database):
    class Case(ChannelLiveServerTestCase):
        def test_it(self):
            """Never runs."""

    [(_, why)] = run(Case).errors
    assert "database in memory" in why


@pytest.fixture
def no_memory(monkeypatch, database):
    # Nothing of these tests is stored.
    monkeypatch.setattr("django.db.backends.sqlite3.base.DatabaseWrapper.is_in_memory_db", lambda self: False)


def test_several_layers_are_refused(no_memory):
    class Case(ChannelLiveServerTestCase):
        def test_it(self):
            """Never runs."""

    with override_settings(CHANNEL_LAYERS={"default": MEMORY, "second": MEMORY}):
        [(_, why)] = run(Case).errors
    assert "default, second" in why


def test_of_a_project(tmp_path):
    """As ``manage.py test`` runs it, with a database in a file, pages, static files and a socket."""
    project = Project(tmp_path)
    project.settings("""
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db", "TEST": {"NAME": BASE_DIR / "test_db"},
        }}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        INSTALLED_APPS += ["django.contrib.auth", "django.contrib.contenttypes"]
        CHANNEL_LAYERS["default"]["TEST_CONFIG"] = {"path": str(BASE_DIR / "test_layer"), "size": 4 * 1024 * 1024}
    """)
    project.write("shop/urls.py", """
        from django.contrib.auth.models import User
        from django.http import HttpResponse
        from django.urls import path
        urlpatterns = [path("users/", lambda request: HttpResponse(User.objects.get().username))]
    """)  # fmt: skip
    project.write("shop/tests.py", """
        import urllib.request
        from django.contrib.auth.models import User
        from websockets.sync.client import connect
        from fastchannels.asgi import channel_layers
        from fastchannels.test import ChannelLiveServerTestCase

        class Live(ChannelLiveServerTestCase):
            worker_threads = 2

            def get(self, path):
                with urllib.request.urlopen(self.live_server_url + path, timeout=20) as response:
                    return response.read().decode()

            def test_pages_see_the_test_database(self):
                User.objects.create_user("ada")
                assert self.get("/users/") == "ada"

            def test_tables_are_emptied_between(self):
                assert not User.objects.exists()
                assert "body" in self.get("/static/shop.css")

            def test_a_socket(self):
                assert channel_layers["default"].layer.path.endswith("test_layer")
                with connect(self.live_server_ws_url + "/", open_timeout=20) as socket:
                    socket.send("hi")
                    assert socket.recv(timeout=20) == "one hi"
    """)  # fmt: skip
    with project.manage("test", "--noinput") as process:
        assert process.wait() == 0, process.output
    assert "Ran 3 tests" in process.output


def test_the_layer_of_the_test_reaches_its_sockets(no_memory):
    class Case(ChannelLiveServerTestCase):
        def test_it(self):
            async def talk():
                async with connect(self.live_server_ws_url + "/") as socket:
                    await socket.send("hi")
                    assert await asyncio.wait_for(socket.recv(), 20) == "HI"
                    await asyncio.to_thread(Group("all").send, {"text": "from the test"})
                    assert await asyncio.wait_for(socket.recv(), 20) == "from the test"

            asyncio.run(talk())

    before = channel_layers["default"]
    with override_settings(CHANNEL_LAYERS={"default": MEMORY}, FASTCHANNELS_ROUTING={"default": ROUTES}):
        assert passed(Case)
    assert channel_layers["default"] is not before
