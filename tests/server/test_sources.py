"""A flag wins over the environment, that over a file, that over the default; what makes no sense is named."""

from __future__ import annotations

import os

import pytest

from fastchannels.server.sources import OptionError, Parser, add_flags, resolve, unknown_variables


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parser():
    made = Parser(prog="server")
    add_flags(made)
    return made


def settle(*arguments, file=None, **environment):
    """What holds, with ``file`` as pyproject.toml."""
    if file is not None:
        with open("pyproject.toml", "w") as pyproject:
            pyproject.write(file)
    return resolve(parser().parse(arguments), environment)


def test_precedence():
    file = "[tool.fastchannels]\nport = 1\nws_max_size = 1\nping-interval = 1\nbacklog = 1\n"
    environment = {"FASTCHANNELS_PORT": "2", "FASTCHANNELS_WS_MAX_SIZE": "2", "FASTCHANNELS_PING_TIMEOUT": "2"}
    config, _ = settle("--port", "3", file=file, **environment)
    assert (config.port, config.ws_max_size, config.ping_interval) == (3, 2, 1)
    assert (config.backlog, config.ping_timeout, config.keep_alive_timeout) == (1, 2, 60)


def test_everything_in_a_file():
    file = """
        [tool.other]
        port = "not ours"
        [tool.fastchannels]
        application = "proj.asgi:application"
        endpoint = ["tcp:8001", "unix:/x"]
        header = ["X-A: 1, 2", "X-B: 3"]
        server-name = false
        access_log = "off"
        reload = true
        limit-header-bytes = 4096
        forwarded-allow-ips = "10.0.0.0/8, 127.0.0.1"
        """
    config, launch = settle(file=file)
    assert launch.application == "proj.asgi:application"
    assert launch.reload is True
    assert config.endpoints == ["tcp:8001", "unix:/x"]
    assert config.headers == [("X-A", "1, 2"), ("X-B", "3")]
    assert config.port is None, "the endpoints say where to listen"
    assert config.server_name is None
    assert config.access_log is None
    assert config.limits.header_bytes == 4096
    assert config.forwarded_allow_ips == ["10.0.0.0/8", "127.0.0.1"]


def test_another_file(directory):
    (directory / "pyproject.toml").write_text("[tool.fastchannels]\nport = 1\nbacklog = 1\n")
    (directory / "server.toml").write_text("port = 2\n")
    config, _ = settle("--config", "server.toml")
    assert (config.port, config.backlog) == (2, 2048)
    assert settle(FASTCHANNELS_CONFIG="server.toml")[0].port == 2
    (directory / "other").mkdir()
    (directory / "other" / "pyproject.toml").write_text("[tool.fastchannels]\nport = 3\n")
    assert settle("--config", "other/pyproject.toml")[0].port == 3


def test_no_file_and_an_empty_variable_say_nothing():
    config, launch = settle(FASTCHANNELS_PORT="", PORT="9")
    assert config.port == 8000
    assert launch.application is None


def test_sockets_of_systemd_are_taken_when_nothing_else_is_said():
    given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    config, _ = settle(**given)
    assert config.endpoints == ["systemd:domain=INET:index=0", "systemd:domain=INET:index=1"]
    assert config.port is None
    assert settle("--port", "9", **given)[0].endpoints == ()
    assert settle("--host", "::1", **given)[0].port == 8000


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("ASGI_THREADS", "5", "threads", 5),
        ("FORWARDED_ALLOW_IPS", "*", "forwarded_allow_ips", ["*"]),
        ("FASTCHANNELS_HEADER", "a: 1\nb: 2", "headers", [("a", "1"), ("b", "2")]),
        ("FASTCHANNELS_SERVER_NAME", "off", "server_name", None),
        ("FASTCHANNELS_DATE_HEADER", "no", "date_header", False),
    ],
)
def test_environment(name, value, field, expected):
    assert getattr(settle(**{name: value})[0], field) == expected


def test_our_variable_wins_over_the_one_of_others():
    assert settle(ASGI_THREADS="5", FASTCHANNELS_THREADS="6")[0].threads == 6
    assert settle(WEB_CONCURRENCY="3")[1].workers == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ws-per-message-deflate", "false"], False),
        (["--ws-per-message-deflate=0"], False),
        (["--no-ws-per-message-deflate"], False),
        (["--no-ws-per-message-deflate", "--ws-per-message-deflate"], True),
        (["--ws-per-message-deflate", "a:b"], True),
    ],
)
def test_switches(arguments, expected):
    assert settle(*arguments)[0].ws_per_message_deflate is expected


def test_a_switch_leaves_the_target_alone():
    config, launch = settle("--proxy-headers", "proj.asgi:application")
    assert config.proxy_headers is True
    assert launch.application == "proj.asgi:application"


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "message"),
    [
        (["-p", "x"], {}, "", "--port: 'x': a whole number from 0 to 65535 is needed"),
        (["--port", "70000"], {}, "", "--port: '70000': a whole number from 0 to 65535 is needed"),
        (["--header", "x"], {}, "", "--header: 'x': \"Name: value\" (or a list of them) is needed"),
        ([], {"FASTCHANNELS_PORT": "x"}, "", "FASTCHANNELS_PORT in the environment: 'x': a whole number from 0"),
        ([], {"ASGI_THREADS": "0"}, "", "ASGI_THREADS in the environment: '0': a whole number from 1 is needed"),
        ([], {}, "port = true", "port in [tool.fastchannels] of pyproject.toml: True: a whole number"),
        ([], {}, "prt = 1", "[tool.fastchannels] of pyproject.toml: there is no option 'prt'; did you mean port?"),
        ([], {}, "bind = 'x'", "[tool.fastchannels] of pyproject.toml: the key for 'bind' is 'host'"),
        ([], {}, "loop = 'x'", "there is no option 'loop': uvloop is used where it is installed"),
        ([], {}, "= 1", "pyproject.toml is not TOML: "),
        (["--config", "nowhere.toml"], {}, "", "there is no file nowhere.toml, which --config names"),
        (["--config", "."], {}, "", ". cannot be read: Is a directory"),
        (["--proxy-headers-host", "X-Real-IP"], {}, "", "--proxy-headers-host needs --proxy-headers"),
        (["--proxy-headers-port", "X-Port"], {}, "", "--proxy-headers-port needs --proxy-headers"),
        (["--ssl-keyfile", "k"], {}, "", "--ssl-keyfile needs --ssl-certfile"),
        (["--ssl-certfile", "c", "--ssl-cert-reqs", "2"], {}, "", "--ssl-cert-reqs needs --ssl-ca-certs"),
        (["--reload", "--workers", "2"], {}, "", "--reload is for one process: leave --workers out"),
        (["--ssl-cert-reqs", "maybe"], {}, "", "--ssl-cert-reqs: 'maybe': none, optional or required is needed"),
    ],
)
def test_one_line_for_what_makes_no_sense(arguments, environment, file, message):
    with pytest.raises(OptionError) as error:
        settle(*arguments, file=f"[tool.fastchannels]\n{file}\n", **environment)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_http2_asked_for_without_its_package(monkeypatch):
    monkeypatch.setattr("fastchannels.server.sources.INSTALLED", False)
    settle("app:app")
    settle("--no-http2", "app:app")
    with pytest.raises(OptionError, match=r"hpack: pip install fastchannels\[http2\]"):
        settle("--http2", "app:app")


def test_a_table_is_needed():
    with pytest.raises(OptionError, match="a table is needed"):
        settle(file="[tool]\nfastchannels = 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "1", "a:b"], "there is no --prot; did you mean --port?"),
        (["--zzzzz"], "there is no --zzzzz\n"),
        (["--loop", "uvloop", "a:b"], "there is no --loop: uvloop is used where it is installed"),
        (["--env-file=x", "a:b"], "there is no --env-file: set the variables"),
        (["a:b", "c:d"], "'c:d' is one argument too many"),
        (["--port"], "expected one argument"),
    ],
)
def test_unknown_flags(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse(arguments)
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("usage: server [options] module:attribute\n")
    assert message in complaint
    assert complaint.count("\n") == 2


def test_unknown_variables_are_told():
    assert unknown_variables({"FASTCHANNELS_PRT": "1", "FASTCHANNELS_PORT": "1", "FASTCHANNELS_DEBUG": "1"}) == [
        "FASTCHANNELS_PRT in the environment is no option; did you mean FASTCHANNELS_PORT?"
    ]


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for flag in ("--bind", "-e", "--websocket_timeout", "--ws-max-size", "--config", "--workers"):
        assert flag in told
    assert "(on; off by --no-date-header)" in " ".join(told.split())
