"""The keys that ``http.request`` and ``websocket.connect`` share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastchannels.server.channel_messages import envelope_of
from fastchannels.server.config import Config


def carrier(**values):
    context = SimpleNamespace(config=Config(root_path="/app"))
    return SimpleNamespace(**{"context": context, "scheme": "http", "client": None, "server": None, **values})


def request(**values):
    defaults = {"websocket": False, "root_path": None, "path": "/a b", "query_string": b"q", "headers": [(b"a", b"b")]}
    return SimpleNamespace(**{**defaults, **values})


@pytest.mark.parametrize(
    ("scheme", "websocket", "expected"),
    [("http", False, "http"), ("https", False, "https"), ("http", True, "ws"), ("https", True, "wss")],
)
def test_scheme(scheme, websocket, expected):
    assert envelope_of(carrier(scheme=scheme), request(websocket=websocket))["scheme"] == expected


def test_what_is_unknown_is_left_out():
    assert envelope_of(carrier(), request()) == {
        "scheme": "http",
        "path": "/a b",
        "query_string": b"q",
        "root_path": "/app",
        "headers": [(b"a", b"b")],
    }
    both = envelope_of(carrier(client=("h", 1), server=("s", 2)), request(root_path="/own"))
    assert (both["client"], both["server"], both["root_path"]) == (("h", 1), ("s", 2), "/own")
