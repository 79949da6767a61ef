import pytest

from fastchannels.test import HttpClient, WSClient


def test_the_old_name_warns():
    with pytest.warns(DeprecationWarning, match="WSClient"):
        assert isinstance(HttpClient(ordered=True), WSClient)
