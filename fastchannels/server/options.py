"""Every option of the server, once: flags, environment variable, key in a file, help and field of ``Config``.

A row's default is that of its field. The flag ``--keep-alive-timeout`` is ``FASTCHANNELS_KEEP_ALIVE_TIMEOUT`` in the
environment and ``keep-alive-timeout`` in ``[tool.fastchannels]`` of pyproject.toml. Flags of Daphne and uvicorn with
the same meaning are further names of a row.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any, Final

from fastchannels.server.config import Config


@dataclasses.dataclass(kw_only=True)
class Launch:
    """What concerns the program and not a server in it."""

    application: str | None = None  #: module:attribute
    app_dir: str = "."  #: where modules are looked for first
    factory: bool = False  #: the target is called, without arguments, and returns what is served
    workers: int | None = None  #: under a supervisor; without it the process serves itself
    reload: bool = False
    reload_dirs: Sequence[str] = ()  #: the current directory when empty
    verbosity: int = 1
    log_level: str | None = None
    log_fmt: str = "%(asctime)-15s %(levelname)-8s %(message)s"


# ---------------------------------------------------------------------------------------------------- kinds of values


class Kind:
    """What an option takes. ``parse`` gets text, or what TOML gave, and raises ``ValueError`` for anything else."""

    metavar = "TEXT"
    allowed = "text"

    def parse(self, value: Any) -> Any:
        """The value as ``Config`` keeps it."""
        if isinstance(value, str):
            return value
        raise ValueError

    def show(self, value: Any) -> str:
        """A default, for a person."""
        return str(value)


class Whole(Kind):
    """A whole number in a range."""

    metavar = "N"

    def __init__(self, least: int = 0, most: int | None = None, metavar: str = "N") -> None:
        self.metavar = metavar
        self._least, self._most = least, most
        self.allowed = f"a whole number from {least}" + (f" to {most}" if most is not None else "")

    def parse(self, value: Any) -> int:
        if isinstance(value, (bool, float)):
            raise ValueError
        number = int(value)
        if number < self._least or (self._most is not None and number > self._most):
            raise ValueError
        return number


class Seconds(Kind):
    """A time; where a limit is meant, 0 and less mean none."""

    metavar = "S"
    allowed = "a number of seconds"

    def parse(self, value: Any) -> float:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number

    def show(self, value: Any) -> str:
        return f"{value:g}"


class Mode(Kind):
    """Permissions of a file, in octal."""

    metavar = "MODE"
    allowed = 'permissions in octal such as "660"'

    def parse(self, value: Any) -> int:
        if isinstance(value, str) and re.fullmatch("(0o)?[0-7]{3,4}", value):
            return int(value.removeprefix("0o"), 8)
        raise ValueError

    def show(self, value: Any) -> str:
        return f"{value:o}"


class Switch(Kind):
    """On or off."""

    metavar = "[BOOL]"
    allowed = "true or false"
    words: Final = {
        **dict.fromkeys(("true", "yes", "on", "1"), True),
        **dict.fromkeys(("false", "no", "off", "0"), False),
    }

    def parse(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in self.words:
            return self.words[value.lower()]
        raise ValueError

    def show(self, value: Any) -> str:
        return "on" if value else "off"


class Choice(Kind):
    """One of some words; ``also`` maps further spellings to them."""

    def __init__(self, *words: str, also: dict[str, str] | None = None) -> None:
        self._words, self._also = words, also or {}
        self.metavar = "|".join(words)
        self.allowed = ", ".join(words[:-1]) + " or " + words[-1]

    def parse(self, value: Any) -> str:
        word = "off" if value is False else "on" if value is True else str(value).lower()
        word = self._also.get(word, word)
        if word not in self._words:
            raise ValueError
        return word


class Token(Kind):
    """A name of a header."""

    metavar = "NAME"
    allowed = "the name of a header"

    def parse(self, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
            return value
        raise ValueError


class HeaderText(Kind):
    """The value of a header: it cannot smuggle a line break."""

    allowed = "text of printable Latin-1 characters"

    def parse(self, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"[\t -~\xa0-\xff]*", value):
            return value
        raise ValueError


class Header(Kind):
    """``Name: value``."""

    metavar = "NAME:VALUE"
    allowed = '"Name: value"'

    def parse(self, value: Any) -> tuple[str, str]:
        if not isinstance(value, str):
            raise ValueError
        name, colon, text = value.partition(":")
        if not colon:
            raise ValueError
        return Token().parse(name.strip()), HeaderText().parse(text.strip())


class Many(Kind):
    """A list: a flag given several times, a list in a file, or text with ``separator`` between the entries."""

    def __init__(self, kind: Kind, separator: str = ",") -> None:
        self.kind, self.separator = kind, separator
        self.metavar = kind.metavar
        self.allowed = kind.allowed

    def parse(self, value: Any) -> list[Any]:
        entries: list[Any] = []
        for given in value if isinstance(value, list) else [value]:
            entries += given.split(self.separator) if isinstance(given, str) else [given]
        return [self.kind.parse(entry.strip() if isinstance(entry, str) else entry) for entry in entries if entry != ""]

    def show(self, value: Any) -> str:
        return ", ".join(map(str, value))


TEXT: Final = Kind()
SECONDS: Final = Seconds()
SWITCH: Final = Switch()
COUNT: Final = Whole()
BYTES: Final = Whole(metavar="BYTES")


class Path(Kind):
    """A name in the file system, from the current directory."""

    metavar = "PATH"
    allowed = "a path"


PATH: Final = Path()


# ---------------------------------------------------------------------------------------------------- the table


@dataclasses.dataclass(frozen=True)
class Option:
    """A row. ``also`` are further flags and ``off`` further names of ``--no-NAME``, which every switch has and every
    option that can be ``optional``: not wanted at all, ``off`` in a file or the environment.
    """

    name: str
    kind: Kind
    help: str
    also: str = ""
    field: str = ""  #: of ``Config`` or ``Launch``, "limits.x" of its limits; the name with underscores when left out
    off: str = ""
    optional: bool = False
    default: str = ""  #: for a person, where the field alone does not tell
    variables: tuple[str, ...] = ()  #: of the environment, beside ours

    @property
    def target(self) -> str:
        """Where the value goes."""
        return self.field or self.name.replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """All that set it, short ones first."""
        return sorted([f"--{self.name}", *self.also.split()], key=lambda flag: flag.startswith("--"))

    @property
    def off_flags(self) -> list[str]:
        """All that switch it off."""
        if self.optional or isinstance(self.kind, Switch):
            return [f"--no-{self.name}", *self.off.split()]
        return []

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "FASTCHANNELS_" + self.name.replace("-", "_").upper()

    def parse(self, value: Any) -> Any:
        """The value of the field. Raises ``ValueError`` that says what is allowed."""
        if self.optional and (value is False or (isinstance(value, str) and value.lower() == "off")):
            return None
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError):
            several = " (or a list of them)" if isinstance(self.kind, Many) else ""
            raise ValueError(f"{self.kind.allowed}{several} is needed") from None

    @property
    def default_text(self) -> str:
        """What holds when nobody says anything; empty for nothing."""
        if self.default:
            return self.default
        owner, _, name = self.target.rpartition(".")
        value = getattr(getattr(Config(), owner) if owner else Config() if name in CONFIG_FIELDS else Launch(), name)
        if value is None or value == "" or value == ():
            return ""
        return self.kind.show(value) + (f"; off by {self.off_flags[0]}" if self.off_flags and value else "")


CONFIG_FIELDS: Final = {field.name for field in dataclasses.fields(Config)}

#: Under the headings that ``--help`` and the documentation show.
OPTIONS: Final[dict[str, list[Option]]] = {
    "Where to listen": [
        Option("host", TEXT, "address; IPv6 with or without brackets", "-b --bind"),
        Option(
            "port",
            Whole(0, 65535),
            "port; 0 picks a free one",
            "-p",
            default="8000, unless another way to listen is given and no host, or systemd opened sockets",
        ),
        Option("uds", PATH, "Unix socket, in place of a port unless one is given", "-u --unix-socket"),
        Option("uds-mode", Mode(), "permissions of the Unix socket"),
        Option("fd", COUNT, "number of an inherited, bound socket"),
        Option(
            "endpoint",
            Many(TEXT),
            "endpoint string: tcp:port=8000:interface=127.0.0.1, ssl:443:privateKey=key.pem:certKey=crt.pem, "
            "unix:/path:mode=660, fd:fileno=3, systemd:domain=INET:index=0; may be repeated",
            "-e",
            field="endpoints",
        ),
        Option("backlog", Whole(1), "connections that the kernel keeps until they are accepted"),
    ],
    "TLS": [
        Option("ssl-certfile", PATH, "PEM file of the certificate and its chain: the server speaks TLS"),
        Option("ssl-keyfile", PATH, "PEM file of its key", default="in --ssl-certfile"),
        Option("ssl-keyfile-password", TEXT, "password of the key"),
        Option("ssl-ca-certs", PATH, "PEM file of those who may sign certificates of clients"),
        Option(
            "ssl-cert-reqs",
            Choice("none", "optional", "required", also={"0": "none", "1": "optional", "2": "required"}),
            "certificates of clients",
        ),
        Option("ssl-ciphers", TEXT, "ciphers of TLS 1.2, as OpenSSL writes them", default="OpenSSL's with ECDHE"),
        Option("ssl-handshake-timeout", SECONDS, "seconds for a client's half of the handshake of TLS"),
    ],
    "The application": [
        Option("application", TEXT, "module:attribute of an ASGI application or a channel layer"),
        Option("app-dir", PATH, "directory in which modules are looked for first"),
        Option("factory", SWITCH, "call the target, without arguments, for what is served"),
        Option("root-path", TEXT, "root_path of each request"),
        Option("lifespan", Choice("auto", "on", "off"), "on: an application without lifespan is refused"),
        Option(
            "threads",
            Whole(1),
            "threads for synchronous code of the application",
            default="Python's",
            variables=("ASGI_THREADS",),
        ),
    ],
    "HTTP": [
        Option(
            "http-timeout",
            SECONDS,
            "seconds without progress before a request gets 503",
            "-t",
            default="none; 120 in channel mode",
        ),
        Option("keep-alive-timeout", SECONDS, "seconds for the next request of a connection", "--timeout-keep-alive"),
        Option("layer-timeout", SECONDS, "seconds for the channel layer to take a request, then 503 (channel mode)"),
        Option(
            "channel-full-timeout",
            SECONDS,
            "seconds that a request or a handshake waits in line for room in its channel, then 503; 0: not at all "
            "(channel mode)",
        ),
        Option("ack-timeout", SECONDS, "seconds of silence after which a worker is doubted (channel mode)"),
        Option("application-close-timeout", SECONDS, "seconds that an application may go on after its client left"),
        Option("request-buffer-size", Whole(1, metavar="BYTES"), "bytes of a body that wait for the application"),
        Option(
            "server-name", HeaderText(), "value of the Server header", "-s", off="--no-server-header", optional=True
        ),
        Option("date-header", SWITCH, "send a Date header"),
        Option("header", Many(Header(), "\n"), "a further header of each response; may be repeated", field="headers"),
    ],
    "WebSocket": [
        Option("ping-interval", SECONDS, "seconds of silence before a ping", "--ws-ping-interval"),
        Option("ping-timeout", SECONDS, "seconds for its pong", "--ws-ping-timeout"),
        Option("websocket-timeout", SECONDS, "life of a socket in seconds; negative: none", "--websocket_timeout"),
        Option(
            "websocket-connect-timeout",
            SECONDS,
            "seconds to accept a socket; negative: no limit",
            "--websocket_connect_timeout",
        ),
        Option("websocket-close-timeout", SECONDS, "seconds for the client's half of the closing handshake"),
        Option("ws-max-size", BYTES, "bytes of a message; 0: no limit", "--websocket-max-message-size"),
        Option("ws-max-frame-size", BYTES, "bytes of a frame; 0: as the message", "--websocket-max-frame-size"),
        Option("ws-per-message-deflate", SWITCH, "compress for clients that offer it"),
        Option("ws-write-budget", BYTES, "bytes of messages that wait for a client that reads too slowly; 0: no limit"),
        Option(
            "ws-slow-client",
            Choice("close", "drop_oldest", "latest"),
            "past the budget: close the socket (1013), drop the oldest messages, or keep the latest only",
        ),
        Option("ws-message-rate", COUNT, "messages a second of one socket, which is read no faster; 0: no limit"),
        Option("ws-byte-rate", BYTES, "the same in bytes"),
        Option(
            "ws-protocol",
            Many(Token()),
            "subprotocol that channel mode accepts; may be repeated",
            field="ws_protocols",
        ),
    ],
    "Behind a proxy": [
        Option("proxy-headers", SWITCH, "take the client's address, port and scheme from X-Forwarded-..."),
        Option("proxy-headers-host", Token(), "header with the address"),
        Option("proxy-headers-port", Token(), "header with the port"),
        Option(
            "forwarded-allow-ips",
            Many(TEXT),
            "addresses or networks of proxies that are believed, * for all; may be repeated",
            variables=("FORWARDED_ALLOW_IPS",),
        ),
    ],
    "Limits": [
        Option(
            "limit-connections",
            COUNT,
            "connections at once, further ones get 503; 0: no limit",
            default="what the limit on open files allows",
        ),
        Option("limit-per-address", COUNT, "the same for one address (IPv6: a /64) that is no trusted proxy; 0: none"),
        Option("limit-concurrency", Whole(1), "requests and sockets at once, further ones get 503", optional=True),
        Option("limit-max-requests", Whole(1), "requests and sockets before a new process takes over", optional=True),
        Option("http2", SWITCH, "speak HTTP/2 too, where the extra fastchannels[http2] is installed"),
        Option("http2-streams", Whole(1), "requests and sockets at once on one HTTP/2 connection"),
        Option("http2-window", Whole(1), "bytes of one HTTP/2 request that its application has not read"),
        Option("http2-connection-window", Whole(1), "bytes of all requests of an HTTP/2 connection, likewise"),
        Option("http2-resets", Whole(1), "HTTP/2 requests that a client may take back; a tenth more each second"),
        Option("http2-control-frames", Whole(1), "HTTP/2 frames without content; a tenth more each second"),
        Option("header-timeout", SECONDS, "seconds for a whole request head from its first byte, then 408"),
        Option("body-timeout", SECONDS, "seconds without a byte of a request's body, then 408"),
        Option(
            "body-rate",
            COUNT,
            "bytes a second: what a body takes longer counts towards --body-timeout; 0: any pace",
        ),
        Option("write-timeout", SECONDS, "seconds in which a client takes nothing of its response, then it is cut"),
        Option("keep-alive-requests", COUNT, "requests of one connection, then it is closed; 0: no limit"),
        Option("limit-request-line", Whole(1, metavar="BYTES"), "bytes of a request line", field="limits.request_line"),
        Option("limit-request-fields", Whole(1), "header lines of a request", field="limits.headers"),
        Option(
            "limit-header-bytes",
            Whole(1, metavar="BYTES"),
            "bytes of all header lines of a request",
            field="limits.header_bytes",
        ),
    ],
    "Log": [
        Option("verbosity", Whole(0, 3), "0 warnings, 1 information, 2 and 3 debugging", "-v"),
        Option(
            "log-level", Choice("critical", "error", "warning", "info", "debug"), "least level; wins over --verbosity"
        ),
        Option("log-fmt", TEXT, "format of Python's logging"),
        Option(
            "access-log",
            PATH,
            "file for the access log, - for standard output",
            optional=True,
            default="-, none with -v 0",
        ),
        Option("access-log-format", Choice("daphne", "json"), "its lines: as Daphne's, or an object of JSON each"),
        Option(
            "access-log-mask",
            Many(TEXT),
            "parameters of query strings whose values the access log does not show; may be repeated",
        ),
    ],
    "Processes": [
        Option(
            "workers",
            Whole(1),
            "processes that serve, under a supervisor: SIGHUP replaces them",
            variables=("WEB_CONCURRENCY",),
        ),
        Option("reload", SWITCH, "start again when a file changes, for development"),
        Option("reload-dir", Many(PATH), "directory to watch; may be repeated", field="reload_dirs", default="."),
        Option("graceful-timeout", SECONDS, "seconds for running responses at a stop", "--timeout-graceful-shutdown"),
        Option(
            "admin",
            TEXT,
            "address of /metrics, /health and a status page: port, host:port or a Unix socket's path; of several "
            "workers, each has the next port, or path",
        ),
        Option("health-path", TEXT, "path that the server answers by itself: 200, or 503 when it stops"),
        Option("drain-seconds", SECONDS, "seconds over which the closing of websockets is spread at a stop"),
    ],
}

#: Names of uvicorn that this server does not have on purpose, and what to do instead.
ELSEWHERE: Final = {
    "--loop": "uvloop is used where it is installed",
    "--http": "the parser is built in",
    "--ws": "WebSocket is built in",
    "--ws-max-queue": "a full application stops the reading of its socket; --ws-max-size bounds a message",
    "--interface": "ASGI 3 applications and channel layers are served; wrap others with asgiref",
    "--env-file": "set the variables where the process is started",
    "--log-config": "--log-level, --log-fmt and --access-log, or logging.config in the application's module",
    "--use-colors": "the log has no colours",
    "--no-use-colors": "the log has no colours",
    "--server-header": "the name is --server-name",
    "--ssl-version": "TLS 1.2 and newer are spoken, always",
    "--reload-delay": "changes are seen within half a second",
    "--reload-include": "Python files of each --reload-dir are watched",
    "--reload-exclude": "Python files of each --reload-dir are watched",
    "--h11-max-incomplete-event-size": "the name is --limit-header-bytes",
    "--limit-max-requests-jitter": "--limit-max-requests spreads itself over the workers",
    "--timeout-worker-healthcheck": "the supervisor sees the end of a worker at once",
    "--reset-contextvars": "each request runs in a context of its own",
}


def all_options() -> list[Option]:
    """The rows without their headings."""
    return [option for options in OPTIONS.values() for option in options]
