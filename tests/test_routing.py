import re

import pytest
from django.core.exceptions import ImproperlyConfigured

from fastchannels.message import Message
from fastchannels.routing import (
    Route,
    Router,
    connect_consumer,
    include,
    null_consumer,
    route,
    route_class,
)
from tests.talk import make_layer, make_message, sent

LAYER = make_layer()


def one(message, **kwargs):
    """A consumer."""


def two(message, **kwargs):
    """Another one."""


class Klass:
    @classmethod
    def channel_names(cls):
        return {"websocket.connect", "websocket.receive"}


def match(routing, channel="websocket.receive", **content):
    return Router(routing).match(make_message(LAYER, channel, **content))


def test_the_channel_decides():
    routing = [route("a", one), route(["b", "c"], two)]
    assert match(routing, "a") == (one, {})
    assert match(routing, "c") == (two, {})
    assert match(routing, "d") is None
    assert Router(routing).channels == {"a", "b", "c"}


def test_the_first_match_wins():
    assert match([route("a", one), route("a", two)], "a") == (one, {})


def test_filters_look_at_the_content_from_its_start():
    routing = [route("a", one, path=r"^/chat/(?P<room>\w+)/(?P<sub>\w+)?", method="POST|PUT")]
    assert match(routing, "a", path="/chat/red/", method="PUT") == (one, {"room": "red", "sub": None})
    assert match(routing, "a", path="/chat/red/", method="GET") is None
    assert match(routing, "a", path="/x/chat/red/", method="PUT") is None
    assert match(routing, "a", path="/chat/red/") is None
    assert match([route("a", one, text="b")], "a", text="ab") is None


def test_bytes_are_ascii():
    assert match([route("a", one, query_string=rb"x=(?P<x>\d)")], "a", query_string=b"x=1") == (one, {"x": "1"})
    with pytest.raises(UnicodeDecodeError):
        match([route("a", one, query_string="x")], "a", query_string=b"\xff")


def test_none_is_absent_and_other_types_are_refused():
    assert match([route("a", one, text="")], "a", text=None) is None
    with pytest.raises(TypeError, match=r"message\['order'\] is text or ASCII bytes, not int"):
        match([route("a", one, order="1")], "a", order=1)


def test_unnamed_groups_are_refused():
    with pytest.raises(ValueError, match=r"path=.* has unnamed groups"):
        route("a", one, path="/(x)/(?P<y>.)")
    route("a", one, path="/(?:x)/(?P<y>.)")


def test_a_class_names_its_channels():
    assert route_class(Klass, path="/").channel_names() == {"websocket.connect", "websocket.receive"}
    assert match([route_class(Klass, path="/x")], path="/x/") == (Klass, {})
    assert match([route_class(f"{__name__}.Klass")]) == (Klass, {})
    with pytest.raises(ValueError, match="channel_names"):
        route_class(one)


class TestInclude:
    inner = [route("a", one, path=r"^/stream/(?P<slug>\w+)/$")]

    def test_takes_its_match_off_the_front(self):
        routing = [include(self.inner, path=r"^/blog/(?P<lang>\w\w)")]
        assert match(routing, "a", path="/blog/en/stream/x/") == (one, {"lang": "en", "slug": "x"})
        assert match(routing, "a", path="/blog/en") is None
        assert match(routing, "a", path="/news/en/stream/x/") is None
        assert Router(routing).channels == {"a"}

    def test_nests(self):
        routing = [include([include(self.inner, path="/two")], path="/one")]
        assert match(routing, "a", path="/one/two/stream/x/") == (one, {"slug": "x"})

    def test_the_inner_argument_wins(self):
        inner = [route("a", one, path="/(?P<name>.)")]
        assert match([include(inner, path="/(?P<name>.)")], "a", path="/x/y") == (one, {"name": "y"})

    def test_a_missing_key_does_not_match(self):
        assert match([include(self.inner, host="x")], "a", path="/stream/x/") is None

    def test_bytes(self):
        inner = [route("a", one, query_string="b")]
        assert match([include(inner, query_string="a")], "a", query_string=b"ab") == (one, {})

    def test_the_message_stays_whole(self):
        message = make_message(LAYER, "a", path="/blog/en/stream/x/")
        Router([include(self.inner, path=r"^/blog/(?P<lang>\w\w)")]).match(message)
        assert message["path"] == "/blog/en/stream/x/"

    def test_takes_a_dotted_path(self):
        assert match([include(f"{__name__}.dotted")], "a") == (one, {})


dotted = {"a": f"{__name__}.one"}


def test_routing_may_be_a_dict_or_a_dotted_path():
    assert match({"a": one}, "a") == (one, {})
    assert match(f"{__name__}.dotted", "a") == (one, {})


def test_an_object_of_ones_own():
    class Own:
        def match(self, message):
            return one, {"own": True}

        def channel_names(self):
            return {"a"}

    assert match([Own()], "a") == (one, {"own": True})


def test_add_route_appends():
    router = Router([route("a", one)])
    router.add_route(route(["a", "b"], two))
    assert router.match(make_message(LAYER, "a")) == (one, {})
    assert router.match(make_message(LAYER, "b")) == (two, {})
    assert router.channels == {"a", "b"}


def test_the_defaults_stand_at_the_end():
    router = Router([route("websocket.connect", one, path="/x")])
    router.check_default(http_consumer=two)
    assert router.channels == {"http.request", "websocket.connect", "websocket.receive", "websocket.disconnect"}
    assert router.match(make_message(LAYER, "websocket.connect", path="/x")) == (one, {})
    assert router.match(make_message(LAYER, "websocket.connect", path="/y")) == (connect_consumer, {})
    assert router.match(make_message(LAYER, "websocket.receive")) == (null_consumer, {})
    assert router.match(make_message(LAYER, "websocket.disconnect")) == (null_consumer, {})
    assert router.match(make_message(LAYER, "http.request")) == (two, {})


def test_without_a_choice_requests_go_to_the_views():
    from fastchannels.handler import ViewConsumer

    router = Router([])
    router.check_default()
    consumer, _ = router.match(make_message(LAYER, "http.request"))
    assert isinstance(consumer, ViewConsumer)


def test_the_default_of_connect_accepts():
    layer = make_layer()
    connect_consumer(make_message(layer, "websocket.connect"), any="thing")
    null_consumer(make_message(layer), any="thing")
    assert sent(layer) == [{"accept": True}]


class TestBadPaths:
    """The error says which part is wrong, and why."""

    @pytest.fixture(autouse=True)
    def package(self, tmp_path, monkeypatch):
        package = tmp_path / "shop"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "consumers.py").write_text("def ws_connect(message): pass\n")
        (package / "broken.py").write_text("import shop_of_horrors\n")
        (package / "wrong.py").write_text("1 / 0\n")
        monkeypatch.syspath_prepend(tmp_path)

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("shop.consumerz.ws_connect", "module shop.consumerz does not exist (did you mean shop.consumers?)"),
            ("shop.consumers.ws_conect", "module shop.consumers has no ws_conect (did you mean ws_connect?)"),
            ("shop.broken.x", "importing shop.broken failed: ModuleNotFoundError: No module named 'shop_of_horrors'"),
            ("shop.wrong.x", "importing shop.wrong failed: ZeroDivisionError: division by zero"),
            ("schop.consumers.x", "module schop does not exist"),
            ("shop.consumers.x.y", "module shop.consumers.x does not exist"),
            ("consumer", "'consumer' is not a dotted path"),
        ],
    )
    def test_of_a_consumer(self, path, text):
        with pytest.raises(
            ImproperlyConfigured, match=f"websocket.connect.*{re.escape(repr(path))}.*{re.escape(text)}"
        ):
            route("websocket.connect", path)

    def test_of_the_routing(self):
        with pytest.raises(ImproperlyConfigured, match=r"routing 'shop.routing.x': module shop.routing does not exist"):
            Router("shop.routing.x")


@pytest.mark.parametrize("routing", [5, [one], b"x"])
def test_routing_that_is_none(routing):
    with pytest.raises(ImproperlyConfigured, match="routing"):
        Router(routing)


def test_a_consumer_is_callable():
    with pytest.raises(ImproperlyConfigured, match="5 is not callable"):
        Route("a", 5)


def test_normalise_re_arg():
    assert Router.normalise_re_arg(b"x") == Router.normalise_re_arg("x") == "x"
    with pytest.raises(TypeError):
        Router.normalise_re_arg(1)


def test_a_message_of_the_application_is_not_changed_by_matching():
    message = Message({"a": "/one/two"}, "a", LAYER)
    Router([include([route("a", one, a="/two")], a="/one")]).match(message)
    assert message.content == {"a": "/one/two"}
