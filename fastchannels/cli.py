"""The commands ``fastchannels``, ``fastchannels-server`` and ``fastchannels-worker``.

Exit status: 0 after a signal stopped it, 1 when it cannot listen or the application refuses to start, 2 for arguments
that make no sense, a target that cannot be imported above all.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from fastchannels.exceptions import UsageError

logger = logging.getLogger("fastchannels")

_LOG_FORMAT = "%(asctime)-15s %(levelname)-8s %(message)s"


class TargetError(UsageError):
    """``module:attribute`` leads to nothing that can be served; the message is one line for a person."""


def main(argv: Sequence[str] | None = None) -> int:
    """``fastchannels server ...`` and ``fastchannels worker ...``."""
    parser = argparse.ArgumentParser(prog="fastchannels", description="Protocol server and workers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _server_arguments(commands.add_parser("server", help="serve an ASGI application or a channel layer"))
    _worker_arguments(commands.add_parser("worker", help="run consumers for a channel layer"))
    options = parser.parse_args(argv)
    return _run_server(options) if options.command == "server" else _run_worker(options)


def server(argv: Sequence[str] | None = None) -> int:
    """``fastchannels-server [flags] module:attribute``."""
    parser = argparse.ArgumentParser(
        prog="fastchannels-server", description="Serves an ASGI application, or a channel layer and its workers."
    )
    _server_arguments(parser)
    return _run_server(parser.parse_args(argv))


def worker(argv: Sequence[str] | None = None) -> int:
    """``fastchannels-worker [flags] module:channel_layer``."""
    parser = argparse.ArgumentParser(
        prog="fastchannels-worker", description="Runs the consumers that a channel layer routes to."
    )
    _worker_arguments(parser)
    return _run_worker(parser.parse_args(argv))


# ---------------------------------------------------------------------------------------------------- arguments


def _server_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of Daphne that this version honours, with their spelling: two have underscores."""
    add = parser.add_argument
    add("-b", "--bind", metavar="HOST", help="address to listen on; IPv6 with or without brackets (127.0.0.1)")
    add("-p", "--port", type=int, help="port to listen on; 0 picks a free one (8000)")
    add("-u", "--unix-socket", metavar="PATH", help="Unix socket to listen on, in place of a port unless one is given")
    add("--fd", type=int, metavar="N", help="file descriptor of a bound socket to listen on")
    add("-v", "--verbosity", type=int, choices=(0, 1, 2, 3), default=1, help="0 warnings, 1 information, 2, 3 more")
    add("--access-log", metavar="PATH", help="file for the access log, - for standard output (- unless -v 0)")
    add("-t", "--http-timeout", type=float, metavar="S", help="seconds without progress before a request gets 503")
    add("--ping-interval", type=float, default=20, metavar="S", help="seconds of silence before a ping (20)")
    add("--ping-timeout", type=float, default=30, metavar="S", help="seconds for the pong (30)")
    add("--websocket_timeout", type=float, default=86400, metavar="S", help="life of a socket; negative: none (86400)")
    add(
        "--websocket_connect_timeout",
        type=float,
        default=5,
        metavar="S",
        help="seconds to accept a socket; 0 or negative: no limit (5)",
    )
    add(
        "--application-close-timeout",
        type=float,
        default=10,
        metavar="S",
        help="seconds that an application may go on after its client left (10)",
    )
    add("--root-path", default="", metavar="PATH", help="root_path of each request")
    name = parser.add_mutually_exclusive_group()
    name.add_argument("-s", "--server-name", default="fastchannels", help="value of the Server header (fastchannels)")
    name.add_argument("--no-server-name", action="store_const", const=None, dest="server_name", help="send none")
    add(
        "--ws-max-size",
        "--websocket-max-message-size",
        type=int,
        default=1024 * 1024,
        metavar="BYTES",
        help="largest WebSocket message; 0: no limit (1048576)",
    )
    add(
        "--ws-protocol",
        action="append",
        default=[],
        metavar="NAME",
        help="subprotocol that channel mode accepts; may be given several times",
    )
    add("--graceful-timeout", type=float, default=30, metavar="S", help="seconds for running responses at a stop (30)")
    add("--drain-seconds", type=float, default=0, metavar="S", help="spread the closing of websockets at a stop (0)")
    add("application", metavar="module:attribute", help="an ASGI application, or a channel layer")


def _worker_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--threads", type=int, default=1, metavar="N", help="threads that run synchronous consumers (1)")
    add("--only-channels", action="append", metavar="GLOB", help="listen only on these; may be given several times")
    add("--exclude-channels", action="append", metavar="GLOB", help="do not listen on these")
    add("-v", "--verbosity", type=int, choices=(0, 1, 2, 3), default=1, help="0 warnings, 1 information, 2, 3 more")
    add("channel_layer", metavar="module:attribute", help="what fastchannels.asgi.get_channel_layer() returned")


# ---------------------------------------------------------------------------------------------------- commands


def _start(verbosity: int) -> None:
    """Log to standard error, and let modules of the current directory be imported."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG, logging.DEBUG)[verbosity]
    logging.basicConfig(level=level, format=_LOG_FORMAT)
    logging.getLogger("asyncio").setLevel(logging.DEBUG if verbosity == 3 else logging.WARNING)
    sys.path.insert(0, os.getcwd())


def _complain(program: str, error: Exception) -> None:
    print(f"{program}: {error}", file=sys.stderr)


def _run_server(options: argparse.Namespace) -> int:
    from fastchannels.server.server import Config, Server

    _start(options.verbosity)
    try:
        target = load_target(options.application, "application")
        mode = _mode(target, options.application)
    except TargetError as error:
        _complain("fastchannels-server", error)
        return 2
    port = options.port
    if port is None and (options.bind is not None or (options.unix_socket is None and options.fd is None)):
        port = 8000
    config = Config(
        host=options.bind or "127.0.0.1",
        port=port,
        uds=options.unix_socket,
        fd=options.fd,
        root_path=options.root_path,
        server_name=options.server_name,
        access_log=options.access_log or ("-" if options.verbosity else None),
        verbosity=options.verbosity,
        http_timeout=options.http_timeout,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
        websocket_timeout=options.websocket_timeout,
        websocket_connect_timeout=options.websocket_connect_timeout,
        application_close_timeout=options.application_close_timeout,
        ws_max_size=options.ws_max_size,
        ws_protocols=options.ws_protocol,
        graceful_timeout=options.graceful_timeout,
        drain_seconds=options.drain_seconds,
    )
    try:
        Server(config, **mode).run()
    except UsageError as error:
        logger.critical("%s", error)
        return 1
    return 0


def _mode(target: Any, name: str) -> dict[str, Any]:
    """Channel mode for a layer or what wraps one; otherwise an ASGI application (design section 2)."""
    for candidate in (getattr(target, "layer", None), target):
        if not inspect.isclass(candidate) and hasattr(candidate, "attach") and hasattr(candidate, "new_local_channel"):
            return {"layer": candidate}
    if inspect.isclass(target):
        raise TargetError(f"{name} is a class: serve an instance, or what its as_asgi() returns")
    if not callable(target):
        raise TargetError(f"{name} is {target!r}: neither an ASGI application nor a channel layer")
    return {"application": target}


def _run_worker(options: argparse.Namespace) -> int:
    _start(options.verbosity)
    try:
        layer = load_target(options.channel_layer, "channel_layer")
        # Asked of the class: the property imports the routing, whose own complaints are for below.
        if not hasattr(type(layer), "router"):
            raise TargetError(
                f"{options.channel_layer} is {layer!r}: a worker needs what fastchannels.asgi.get_channel_layer() gives"
            )
    except TargetError as error:
        _complain("fastchannels-worker", error)
        return 2
    from django.core.exceptions import ImproperlyConfigured

    from fastchannels.worker import run_workers

    try:
        run_workers(
            layer,
            threads=options.threads,
            only_channels=options.only_channels,
            exclude_channels=options.exclude_channels,
        )
    except ImproperlyConfigured as error:
        logger.critical("%s", error)
        return 1
    return 0


# ---------------------------------------------------------------------------------------------------- targets


def load_target(target: str, usual: str) -> Any:
    """The object that ``module:attribute`` names; the attribute may be dotted.

    Raises ``TargetError`` that says which part was not found and what is near it. ``usual`` is the attribute to
    suggest when none is given.
    """
    name, colon, path = target.partition(":")
    if not colon or not name or not path:
        example = target.strip(":") or "proj.asgi"
        raise TargetError(f"{target!r} is not module:attribute; did you mean {f'{example}:{usual}'!r}?")
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(_import_failure(name, error)) from error
        raise TargetError(f"there is no module {error.name!r}{_near_module(error.name)}") from error
    except Exception as error:
        raise TargetError(_import_failure(name, error)) from error
    where = f"module {name!r}"
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            hint = _near(attribute, [known for known in dir(found) if not known.startswith("_")])
            raise TargetError(f"{where} has no attribute {attribute!r}{hint}") from None
        where = f"{name}:{path.partition(attribute)[0]}{attribute}"
    return found


def _import_failure(name: str, error: Exception) -> str:
    """One line for a module that raises while it is imported; the whole story goes to the debug log."""
    logger.debug("importing %s failed", name, exc_info=error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    text = " ".join(str(error).split())
    return f"module {name!r} cannot be imported: {type(error).__name__}: {text}{place}; -v 2 shows the traceback"


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        paths = list(importlib.import_module(parent).__path__) if parent else [os.getcwd()]
    except (ImportError, AttributeError):
        return ""
    return _near(last, [module.name for module in pkgutil.iter_modules(paths)], f"{parent}." if parent else "")


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {prefix + close[0]!r}?"
    if names:
        return f"; there is {', '.join(prefix + found for found in names[:5])}{', ...' if len(names) > 5 else ''}"
    return ""
