import subprocess
import sys
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import fastchannels
from fastchannels.asgi import ChannelLayerManager, ChannelLayerWrapper, get_channel_layer
from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.routing import route
from tests.talk import make_layer

MEMORY = "fastchannels.layers.memory.InMemoryChannelLayer"
CHANNELS = ["fastchannels", "channels"]


def consumer(message):
    """A consumer."""


routing = [route("a", consumer)]


def layers(**default):
    return override_settings(CHANNEL_LAYERS={"default": {"BACKEND": MEMORY, **default}})


class TestManager:
    def test_a_layer_is_built_once_a_process(self):
        with layers(CONFIG={"capacity": 7}):
            manager = ChannelLayerManager()
            assert manager["default"] is manager["default"]
            assert manager["default"].capacity == 7
            assert "default" in manager
            assert "other" not in manager

    def test_get_channel_layer(self):
        with layers():
            assert isinstance(get_channel_layer().layer, InMemoryChannelLayer)
            assert get_channel_layer() is get_channel_layer("default") is fastchannels.channel_layers["default"]

    def test_settings_that_change_build_it_anew(self):
        with layers(CONFIG={"capacity": 7}):
            assert get_channel_layer().capacity == 7
        with layers(CONFIG={"capacity": 8}):
            assert get_channel_layer().capacity == 8

    def test_set_swaps(self):
        with layers():
            manager = ChannelLayerManager()
            mine, first = make_layer(), manager["default"]
            assert manager.set("default", mine) is first
            assert manager["default"] is mine
            assert manager.set("default", None) is mine
            assert manager["default"] is not mine

    def test_without_the_setting_it_is_the_layer_of_this_machine(self):
        with override_settings(CHANNEL_LAYERS=None, BASE_DIR="/one"):
            config = ChannelLayerManager().configs["default"]
        assert config["BACKEND"] == "fastchannels.layers.local.LocalChannelLayer"
        with override_settings(CHANNEL_LAYERS=None, BASE_DIR="/two"):
            other = ChannelLayerManager().configs["default"]
        # Two projects of one user do not take each other's messages.
        assert config["CONFIG"]["path"] != other["CONFIG"]["path"]

    @pytest.mark.parametrize(
        ("config", "text"),
        [
            ({"BACKEND": None}, r"\['default'\] has no BACKEND"),
            (
                {"BACKEND": "fastchannels.layers.memry.X"},
                r"memry does not exist \(did you mean fastchannels.layers.memory",
            ),
            ({"BACKEND": "fastchannels.layers.memory.X"}, "module fastchannels.layers.memory has no X"),
            (
                {"BACKEND": "collections.OrderedDict"},
                "is not a layer of fastchannels; Channel, Group and workers need one$",
            ),
            (
                {"BACKEND": "asgi_redis.RedisChannelLayer"},
                r"need one: 'fastchannels.layers.redis.RedisChannelLayer' is in",
            ),
            (
                {"BACKEND": "channels_redis.core.RedisChannelLayer"},
                r"'fastchannels.layers.redis.RedisChannelLayer' is in",
            ),
            ({"BACKEND": "asgi_ipc.IPCChannelLayer"}, r"'fastchannels.layers.local.LocalChannelLayer' is in its place"),
            ({"BACKEND": "asgiref.inmemory.ChannelLayer"}, r"'fastchannels.layers.memory.InMemoryChannelLayer' is in"),
            ({"CONFIG": {"capacty": 3}}, r"CHANNEL_LAYERS\['default'\]: .*'capacty'.*'capacity'"),
            ({"CONFIGS": {}}, "has a key 'CONFIGS': did you mean 'CONFIG'"),
        ],
    )
    def test_wrong_settings_are_named(self, config, text):
        with layers(**config), pytest.raises(InvalidChannelLayerError, match=text):
            ChannelLayerManager()["default"]

    def test_an_alias_that_is_not_there(self):
        with pytest.raises(InvalidChannelLayerError, match="no layer 'defualt': did you mean 'default'"):
            ChannelLayerManager()["defualt"]


class TestRouting:
    def test_comes_from_our_setting(self):
        with layers(), override_settings(FASTCHANNELS_ROUTING={"default": f"{__name__}.routing"}):
            assert ChannelLayerManager()["default"].router.channels == {"a"}

    def test_comes_from_the_setting_of_1x(self):
        with layers(ROUTING=routing), override_settings(FASTCHANNELS_ROUTING=None):
            assert ChannelLayerManager()["default"].router.channels == {"a"}

    def test_two_that_differ(self):
        with layers(ROUTING="x.y"), override_settings(FASTCHANNELS_ROUTING={"default": "x.z"}):
            with pytest.raises(ImproperlyConfigured, match="differ"):
                ChannelLayerManager().check_settings()
            with override_settings(FASTCHANNELS_ROUTING={"default": "x.y"}):
                ChannelLayerManager().check_settings()

    def test_with_channels_4_only_our_setting(self):
        with layers(ROUTING=routing), override_settings(FASTCHANNELS_ROUTING=None):
            manager = ChannelLayerManager()
            # Only the setting is looked at; the app registry need not follow.
            from django.conf import settings

            before, settings.INSTALLED_APPS = settings.INSTALLED_APPS, CHANNELS
            try:
                with pytest.raises(InvalidChannelLayerError, match="FASTCHANNELS_ROUTING"):
                    manager.check_settings()
            finally:
                settings.INSTALLED_APPS = before

    @pytest.mark.parametrize(
        ("setting", "text"),
        [
            ("project.routing.x", "is a dict from the alias of a layer to its routing"),
            ({"websocket.connect": consumer}, "names the layer 'websocket.connect'"),
            ({"defualt": []}, "did you mean 'default'"),
        ],
    )
    def test_a_setting_of_another_form(self, setting, text):
        context = override_settings(FASTCHANNELS_ROUTING=setting)
        with layers(), context, pytest.raises(ImproperlyConfigured, match=text):
            ChannelLayerManager().check_settings()

    def test_none_at_all_matters_only_when_it_is_asked_for(self):
        with layers(), override_settings(FASTCHANNELS_ROUTING=None):
            wrapper = ChannelLayerManager()["default"]
            with pytest.raises(ImproperlyConfigured, match=r"FASTCHANNELS_ROUTING = \{'default'"):
                wrapper.router  # noqa: B018

    def test_the_router_is_built_once_and_late(self):
        wrapper = make_layer("x.y")
        with pytest.raises(ImproperlyConfigured, match="module x does not exist"):
            wrapper.router  # noqa: B018
        wrapper = make_layer(routing)
        assert wrapper.routing is routing
        assert wrapper.router is wrapper.router


class TestWrapper:
    def test_messages(self):
        layer = make_layer(capacity=2, max_message_size=100)
        layer.send("a", {"n": 1})
        layer.send("b", {"n": 2})
        assert {layer.receive(["a", "b"])[0], layer.receive_many(["a", "b"])[0]} == {"a", "b"}
        assert layer.receive(["a", "b"]) == (None, None)
        assert layer.receive([]) == (None, None)
        assert layer.receive(["a"], block=True, timeout=0.01) == (None, None)
        layer.send("a", {})
        layer.send("a", {})
        with pytest.raises(layer.ChannelFull):
            layer.send("a", {})
        with pytest.raises(layer.MessageTooLarge):
            layer.send("b", {"x": "x" * 100})
        assert (layer.ChannelFull, layer.MessageTooLarge) == (ChannelFull, MessageTooLarge)

    def test_a_blocking_receive_wakes_up(self):
        layer = make_layer()
        timer = threading.Timer(0.05, layer.send, ("a", {"n": 1}))
        timer.start()
        assert layer.receive(["a"], block=True, timeout=10) == ("a", {"n": 1})
        timer.join()

    async def test_a_blocking_receive_does_not_stop_an_event_loop(self):
        with pytest.raises(RuntimeError, match="would stop the running event loop"):
            make_layer().receive(["a"], block=True)

    def test_groups(self):
        layer = make_layer()
        layer.group_add("all", "a")
        layer.send_group("all", {"n": 1})
        layer.group_discard("all", "a")
        layer.group_send("all", {"n": 2})
        assert layer.receive(["a"]) == ("a", {"n": 1})
        assert layer.receive(["a"]) == (None, None)
        layer.group_add("all", "a")
        layer.group_add("more", "a")
        layer.group_send(["all", "more"], {"n": 3})
        layer.send_group("all", {"n": 4}, exclude=["a"])
        assert layer.receive(["a"]) == ("a", {"n": 3})
        assert layer.receive(["a"]) == (None, None)

    def test_new_channel(self):
        layer = make_layer()
        first, second = layer.new_channel("body?"), layer.new_channel("body?")
        assert first.startswith("body?")
        assert first != second
        layer.send(first, {"n": 1})
        assert layer.receive([first]) == (first, {"n": 1})
        assert layer.new_channel("answers!").startswith("answers.")
        assert "!" in layer.new_channel("answers!")
        with pytest.raises(ValueError, match="ends in"):
            layer.new_channel("body")

    def test_flush_and_close(self):
        layer = make_layer()
        layer.send("a", {})
        layer.flush()
        assert layer.receive(["a"]) == (None, None)
        layer.close()

    def test_what_it_tells(self):
        layer = make_layer(expiry=5, group_expiry=6, capacity=7)
        assert (layer.expiry, layer.group_expiry, layer.capacity) == (5, 6, 7)
        assert {"groups", "flush"} <= set(layer.extensions)
        assert "messages_count" in layer.statistics()
        assert "messages_count" in layer.global_statistics()
        assert layer.channel_statistics("a")["channel_full_count"] == 0
        assert str(layer) == f"default ({MEMORY})"

    def test_names_and_contents_are_checked_without_sending(self):
        layer = make_layer()
        layer.check_channel("a?b")
        layer.check_group("a")
        with pytest.raises(TypeError):
            layer.check_channel("a b")
        with pytest.raises(TypeError):
            layer.check_group("a!b")
        assert layer.carried({"a": (1, 2)}) == {"a": [1, 2]}


def test_the_package_needs_no_django():
    code = (
        "import sys, fastchannels; fastchannels.__version__, fastchannels.DEFAULT_CHANNEL_LAYER;"
        "assert not any(name.split('.')[0] in ('django', 'redis') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_package_exports_the_names_of_1x():
    for name in ("Channel", "Group", "channel_layers", "include", "route", "route_class"):
        assert getattr(fastchannels, name) is getattr(fastchannels, name)
        assert name in fastchannels.__all__
    with pytest.raises(AttributeError, match="nothing"):
        fastchannels.nothing  # noqa: B018
    assert isinstance(fastchannels.channel_layers["default"], ChannelLayerWrapper)
