import pytest

from fastchannels.handler import ViewConsumer
from fastchannels.utils import name_that_thing


class Thing:
    def method(self):
        """Only its name counts."""


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (name_that_thing, "fastchannels.utils.name_that_thing"),
        (ViewConsumer, "fastchannels.handler.ViewConsumer"),
        (Thing().method, "tests.test_utils.Thing.method"),
        (Thing(), "tests.test_utils.Thing"),
        (3, "builtins.int"),
    ],
)
def test_names(thing, name):
    assert name_that_thing(thing) == name
