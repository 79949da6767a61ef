import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from fastchannels.apps import check_order


def late(*installed, routing=None):
    with override_settings(INSTALLED_APPS=installed, FASTCHANNELS_ROUTING=routing):
        return [error.id for error in check_order(None)]


def test_the_app():
    config = apps.get_app_config("fastchannels")
    assert (config.name, config.label) == ("fastchannels", "fastchannels")


def test_it_stands_before_the_apps_whose_commands_it_replaces():
    assert late("fastchannels", "django.contrib.staticfiles") == []
    assert late("django.contrib.staticfiles", "fastchannels") == ["fastchannels.E001"]


def test_channels_may_stand_first_where_there_is_no_routing():
    assert late("channels", "fastchannels") == []
    assert late("channels", "fastchannels", routing={"default": []}) == ["fastchannels.E001"]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"CHANNEL_SESSION_ENGINE": "no.such.engine"}, "CHANNEL_SESSION_ENGINE"),
        ({"FASTCHANNELS_ROUTING": "project.routing"}, "FASTCHANNELS_ROUTING"),
    ],
)
def test_settings_that_cannot_be_followed_stop_the_start(setting, text):
    with override_settings(**setting), pytest.raises(ImproperlyConfigured, match=text):
        apps.get_app_config("fastchannels").ready()
