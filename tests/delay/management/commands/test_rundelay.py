import signal

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from fastchannels.asgi import channel_layers
from tests.flows.processes import Process
from tests.management.commands.project import Project
from tests.talk import eventually


def test_a_layer_in_memory_is_refused():
    channel_layers.set("default", None)
    with pytest.raises(CommandError, match="lives in one process"):
        call_command("rundelay")


def test_a_sleep_of_nothing_is_refused(settings_of_a_local_layer):
    with pytest.raises(CommandError, match="--sleep 0"):
        call_command("rundelay", sleep=0.0)


@pytest.fixture
def settings_of_a_local_layer(tmp_path):
    config = {"path": str(tmp_path / "layer"), "size": 4 * 1024 * 1024}
    layer = {"BACKEND": "fastchannels.layers.local.LocalChannelLayer", "CONFIG": config}
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        yield


def test_a_message_survives_a_restart_of_the_command(tmp_path):
    project = Project(tmp_path)
    project.settings("""
        INSTALLED_APPS += ["fastchannels.delay"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db"}}
    """)
    with project.manage("migrate") as process:
        assert process.wait() == 0, process.output

    def run(what):
        project.write("run.py", f"""
            import os, time, django
            os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings.settings"
            django.setup()
            from fastchannels.asgi import channel_layers
            from fastchannels.delay.models import DelayedMessage
            layer = channel_layers["default"]
            {what}
        """)  # fmt: skip
        with Process("run.py", cwd=project.root) as process:
            assert process.wait() == 0, process.output
            return process.output

    with project.manage("rundelay", "--sleep", "0.2") as server:
        eventually(lambda: "Running delay" in server.output, "the delay server runs")
        run("""
            layer.send("asgi.delay", {"channel": "news", "delay": 1000, "content": {"raw": b"x"}})
            while not DelayedMessage.objects.exists():
                time.sleep(0.01)""")
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 0, server.output
    with project.manage("rundelay", "--sleep", "0.2"):
        assert "{'raw': b'x'}" in run("print(layer.receive_many(['news'], block=True, timeout=20))")
