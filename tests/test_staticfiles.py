import pytest
from django.test import override_settings

from fastchannels.handler import default_consumer
from fastchannels.staticfiles import StaticFilesConsumer
from tests.talk import make_layer, sent
from tests.test_handler import make_request_message


@pytest.fixture
def layer():
    return make_layer()


class TestStaticFiles:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        (tmp_path / "x.css").write_text("body {}")
        with override_settings(DEBUG=True, STATICFILES_DIRS=[tmp_path]):
            from django.contrib.staticfiles import finders

            finders.get_finder.cache_clear()
            yield
        finders.get_finder.cache_clear()

    def answer(self, layer, path, **options):
        default_consumer(**options)(make_request_message(layer, path))
        return sent(layer)

    def test_are_served_beside_the_views(self, layer):
        replies = self.answer(layer, "/static/x.css")
        assert b"".join(reply.get("content", b"") for reply in replies) == b"body {}"
        assert replies[0]["status"] == 200
        assert self.answer(layer, "/echo/")[0]["status"] == 200

    def test_one_that_is_not_there(self, layer, caplog):
        [reply] = self.answer(layer, "/static/y.css")
        assert reply["status"] == 404

    def test_only_when_they_are_wanted(self, layer, caplog):
        assert self.answer(layer, "/static/x.css", static=False)[0]["status"] == 404
        with override_settings(DEBUG=False):
            assert self.answer(layer, "/static/x.css")[0]["status"] == 404
            assert self.answer(layer, "/static/x.css", insecure=True)[0]["status"] == 200

    def test_the_consumer_of_channels_1(self, layer):
        consumer = StaticFilesConsumer()
        consumer(make_request_message(layer, "/static/x.css"))
        assert sent(layer)[0]["status"] == 200
        consumer(make_request_message(layer, "/echo/"))
        assert sent(layer)[0]["status"] == 200
