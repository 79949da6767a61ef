"""The table of options: whole, without clashes, and what each kind of value takes."""

from __future__ import annotations

import dataclasses

import pytest

from fastchannels.server.config import Config
from fastchannels.server.http import HttpLimits
from fastchannels.server.options import (
    CONFIG_FIELDS,
    ELSEWHERE,
    OPTIONS,
    Choice,
    Header,
    HeaderText,
    Launch,
    Many,
    Mode,
    Path,
    Seconds,
    Switch,
    Token,
    Whole,
    all_options,
)
from tests.server.options_page import PAGE, split, tables

ROWS = {option.name: option for option in all_options()}

#: Flags of ``daphne --help`` and ``uvicorn --help``.
DAPHNE = (
    "-p --port -b --bind --websocket_timeout --websocket_connect_timeout -u --unix-socket --fd -e --endpoint -v "
    "--verbosity -t --http-timeout --access-log --log-fmt --ping-interval --ping-timeout --websocket-max-message-size "
    "--websocket-max-frame-size --application-close-timeout --root-path --proxy-headers --proxy-headers-host "
    "--proxy-headers-port -s --server-name --no-server-name --request-buffer-size"
)
UVICORN = (
    "--host --port --uds --fd --reload --reload-dir --reload-include --reload-exclude --reload-delay --workers --loop "
    "--http --http2 --ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout --ws-per-message-deflate "
    "--lifespan --interface --env-file --log-config --log-level --access-log --no-access-log --use-colors "
    "--no-use-colors --proxy-headers --no-proxy-headers --server-header --no-server-header --date-header "
    "--no-date-header --forwarded-allow-ips --root-path --limit-concurrency --backlog --limit-max-requests "
    "--limit-max-requests-jitter --timeout-keep-alive --timeout-graceful-shutdown --timeout-worker-healthcheck "
    "--ssl-keyfile --ssl-certfile --ssl-keyfile-password --ssl-version --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers "
    "--header --app-dir --h11-max-incomplete-event-size --reset-contextvars --factory"
)


def flags_of(option):
    return [*option.flags, *option.off_flags]


def test_each_field_has_a_row_and_each_row_a_field():
    fields = CONFIG_FIELDS | {field.name for field in dataclasses.fields(Launch)}
    fields |= {f"limits.{name}" for name in HttpLimits._fields}
    assert fields - {option.target for option in all_options()} == {"limits"}
    assert {option.target for option in all_options()} <= fields


def test_no_two_rows_share_a_name():
    names = [name for option in all_options() for name in [*flags_of(option), option.variable, *option.variables]]
    assert len(names) == len(set(names))
    assert not set(names) & set(ELSEWHERE)


@pytest.mark.parametrize("flag", DAPHNE.split())
def test_flags_of_daphne(flag):
    assert any(flag in flags_of(option) for option in all_options())


@pytest.mark.parametrize("flag", UVICORN.split())
def test_flags_of_uvicorn_are_here_or_refused_with_their_replacement(flag):
    assert (flag in ELSEWHERE) != any(flag in flags_of(option) for option in all_options())


@pytest.mark.parametrize("option", all_options(), ids=lambda option: option.name)
def test_defaults_are_allowed_and_shown(option):
    owner, _, name = option.target.rpartition(".")
    default = getattr(HttpLimits() if owner else Config() if name in CONFIG_FIELDS else Launch(), name)
    if default is not None and not isinstance(option.kind, (Mode, Many)):
        assert option.parse(default) == default
    assert isinstance(option.default_text, str)
    assert "None" not in option.default_text


def test_every_heading_has_rows():
    assert all(OPTIONS.values())


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Whole(), "0", 0),
        (Whole(), 7, 7),
        (Whole(1, 3), "3", 3),
        (Seconds(), "-1", -1.0),
        (Seconds(), 0.5, 0.5),
        (Mode(), "660", 0o660),
        (Mode(), "0o0770", 0o770),
        (Switch(), "Yes", True),
        (Switch(), "0", False),
        (Switch(), False, False),
        (Choice("auto", "on", "off"), "ON", "on"),
        (Choice("auto", "on", "off"), False, "off"),
        (Choice("none", "some", also={"1": "some"}), 1, "some"),
        (Token(), "X-Real-IP", "X-Real-IP"),
        (HeaderText(), "a\tb é", "a\tb é"),
        (Header(), "X-A: b: c", ("X-A", "b: c")),
        (Path(), "x/y", "x/y"),
        (Many(Whole()), "1, 2", [1, 2]),
        (Many(Whole()), ["1", 2, "3,4"], [1, 2, 3, 4]),
        (Many(Header(), "\n"), "a: 1,2\nb: 3", [("a", "1,2"), ("b", "3")]),
    ],
)
def test_values(kind, value, expected):
    assert kind.parse(value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Whole(), "-1"),
        (Whole(), "x"),
        (Whole(), 1.5),
        (Whole(), True),
        (Whole(1, 3), 4),
        (Whole(), [1]),
        (Seconds(), "nan"),
        (Seconds(), "inf"),
        (Seconds(), "soon"),
        (Seconds(), True),
        (Mode(), "999"),
        (Mode(), 660),
        (Switch(), "maybe"),
        (Switch(), 1),
        (Choice("a", "b"), "c"),
        (Token(), "a b"),
        (Token(), ""),
        (HeaderText(), "a\r\nX: y"),
        (Header(), "no colon"),
        (Header(), "a b: c"),
        (Header(), 5),
        (Path(), 5),
        (Many(Whole()), ["1", "x"]),
    ],
)
def test_refused_values(kind, value):
    with pytest.raises((ValueError, TypeError)):
        kind.parse(value)


def test_what_can_be_switched_off():
    assert ROWS["server-name"].parse(False) is None
    assert ROWS["access-log"].parse("off") is None
    assert ROWS["date-header"].parse("off") is False
    with pytest.raises(ValueError, match="whole number from 0 to 65535 is needed"):
        ROWS["port"].parse("off")


def test_the_page_tells_of_every_option():
    assert split(PAGE.read_text())[1].strip() == tables().strip(), "run: python -m tests.server.options_page"
