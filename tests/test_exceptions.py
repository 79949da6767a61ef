"""The tree of errors: what user code catches."""

from __future__ import annotations

import re
import subprocess
import sys

import channels.exceptions
import pytest

from fastchannels import exceptions


def test_limits_are_the_classes_of_channels():
    assert exceptions.ChannelFull is channels.exceptions.ChannelFull
    assert exceptions.MessageTooLarge is channels.exceptions.MessageTooLarge
    assert exceptions.InvalidChannelLayerError is channels.exceptions.InvalidChannelLayerError


def test_without_channels_they_are_ours_and_in_the_tree():
    code = (
        "import sys; sys.modules['channels'] = None\n"
        "from fastchannels.exceptions import ChannelFull, MessageTooLarge, UsageError\n"
        "assert issubclass(ChannelFull, UsageError) and issubclass(MessageTooLarge, UsageError)\n"
        "print(ChannelFull.__module__, ChannelFull.__qualname__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split() == ["fastchannels.exceptions", "ChannelFull"]


def test_the_docstring_names_every_class():
    named = set(re.findall(r":exc:`(\w+)`", exceptions.__doc__))
    assert named == set(exceptions.__all__)


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (exceptions.InvalidNameError, (TypeError,)),
        (exceptions.InvalidMessageError, (TypeError, ValueError, AssertionError)),
        (exceptions.MessageRangeError, (OverflowError,)),
        (exceptions.InvalidPayloadError, (ValueError,)),
        (exceptions.LayerUnavailable, (ConnectionError,)),
        (exceptions.ClientDisconnected, (OSError,)),
    ],
)
def test_old_except_clauses_still_catch(error, parents):
    for parent in parents:
        assert issubclass(error, parent)


def test_peer_errors_carry_what_to_answer():
    assert exceptions.WebSocketError(1002, "reserved bits").code == 1002
    assert str(exceptions.WebSocketError(1002, "reserved bits")) == "reserved bits (close code 1002)"
    assert exceptions.HttpError(431).status == 431


@pytest.mark.parametrize("code", [999, 1001, 1005, 1006, 2999, 5000])
def test_a_close_code_that_no_application_may_send(code):
    with pytest.raises(ValueError, match=str(code)):
        exceptions.WebsocketCloseException(code)


@pytest.mark.parametrize("code", [None, 1000, 3000, 4999])
def test_closing_by_exception(code):
    class Reply:
        sent: dict

        def send(self, content):
            self.sent = content

    class Message:
        reply_channel = Reply()

    message = Message()
    exceptions.WebsocketCloseException(code).run(message)
    assert message.reply_channel.sent == {"close": code or True}
    message.reply_channel = None
    with pytest.raises(ValueError, match="reply channel"):
        exceptions.WebsocketCloseException(code).run(message)
