"""A small Django project in a directory of its own, for commands that run as processes."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from tests.flows.processes import Process

FILES = {
    "manage.py": """
        import os, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings.settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "site_settings/__init__.py": "",
    "site_settings/settings.py": """
        import os
        from pathlib import Path
        BASE_DIR = Path(__file__).parent.parent
        DEBUG = True
        SECRET_KEY = "only for the tests"
        INSTALLED_APPS = ["fastchannels", "django.contrib.staticfiles", "shop"]
        ROOT_URLCONF = "shop.urls"
        STATIC_URL = "/static/"
        USE_TZ = True
        CHANNEL_LAYERS = {"default": {
            "BACKEND": "fastchannels.layers.local.LocalChannelLayer",
            "CONFIG": {"path": str(BASE_DIR / "layer"), "size": 4 * 1024 * 1024},
        }}
        FASTCHANNELS_ROUTING = {"default": "shop.routing.channel_routing"}
    """,
    "shop/__init__.py": "",
    "shop/static/shop.css": "body {}",
    "shop/urls.py": """
        import os
        from django.http import HttpResponse
        from django.urls import path
        urlpatterns = [path("pid/", lambda request: HttpResponse(str(os.getpid())))]
    """,
    "shop/consumers.py": """
        WORD = "one"
        def receive(message):
            message.reply_channel.send({"text": WORD + " " + message["text"]})
    """,
    "shop/routing.py": """
        from fastchannels import route
        channel_routing = [route("websocket.receive", "shop.consumers.receive")]
    """,
    "shop/asgi.py": """
        import os
        async def application(scope, receive, send):
            if scope["type"] != "http":
                raise ValueError(scope["type"])
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"asgi one"})
    """,
}


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        # Files are told apart by their time of change, which may be as coarse as a second.
        self.touch(name)

    def touch(self, name: str) -> bool:
        """Change the time of the file. Django's reloader overlooks an edit before its own first look at a file."""
        path = self.root / name
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 2_000_000_000))
        return True

    def settings(self, text: str) -> None:
        """Add to the settings."""
        with (self.root / "site_settings" / "settings.py").open("a") as file:
            file.write(textwrap.dedent(text))

    def manage(self, *arguments: str) -> Process:
        """``manage.py`` as a process, ended by one SIGTERM. Two in a row can make Django's reloader wait for ever: the
        second exception comes in the middle of ``Popen.kill()``, and the child is not killed.
        """
        return Process("manage.py", *arguments, cwd=self.root)
