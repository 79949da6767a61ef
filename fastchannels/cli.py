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

from fastchannels import __version__
from fastchannels.exceptions import UsageError
from fastchannels.server.config import Config
from fastchannels.server.endpoints import EndpointError, endpoints_of
from fastchannels.server.leash import Leash
from fastchannels.server.listeners import Listener, close_listeners, open_listeners
from fastchannels.server.options import Launch
from fastchannels.server.sources import OptionError, Parser, add_flags, resolve, unknown_variables
from fastchannels.server.supervisor import Born, Supervisor
from fastchannels.server.tls import tls_context

logger = logging.getLogger("fastchannels")

_LOG_FORMAT = "%(asctime)-15s %(levelname)-8s %(message)s"


class TargetError(UsageError):
    """``module:attribute`` leads to nothing that can be served; the message is one line for a person."""


def main(argv: Sequence[str] | None = None) -> int:
    """``fastchannels server ...``, ``worker ...``, and ``status`` and ``flush`` of a local layer's segment."""
    parser = Parser(prog="fastchannels", description="Protocol server and workers.")
    parser.add_argument("--version", action="version", version=f"fastchannels {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    add_flags(commands.add_parser("server", help="serve an ASGI application or a channel layer"))
    _worker_arguments(commands.add_parser("worker", help="run consumers for a channel layer"))
    for name, text in (("status", "what a local layer's segment holds"), ("flush", "remove all that waits in it")):
        _segment_arguments(commands.add_parser(name, help=text))
    options = parser.parse(argv)
    if options.command in ("status", "flush"):
        from fastchannels import inspect_cli

        return inspect_cli.run(options.command, options.path)
    return _run_server(options) if options.command == "server" else _run_worker(options)


def server(argv: Sequence[str] | None = None) -> int:
    """``fastchannels-server [flags] module:attribute``."""
    parser = Parser(
        prog="fastchannels-server", description="Serves an ASGI application, or a channel layer and its workers."
    )
    parser.add_argument("--version", action="version", version=f"fastchannels {__version__}")
    add_flags(parser)
    return _run_server(parser.parse(argv))


def worker(argv: Sequence[str] | None = None) -> int:
    """``fastchannels-worker [flags] module:channel_layer``."""
    parser = Parser(prog="fastchannels-worker", description="Runs the consumers that a channel layer routes to.")
    _worker_arguments(parser)
    return _run_worker(parser.parse(argv))


# ---------------------------------------------------------------------------------------------------- arguments


def _segment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", help="CONFIG 'path' of the layer (this user's only one)")


def _worker_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--threads", type=int, default=1, metavar="N", help="threads that run synchronous consumers (1)")
    add("--processes", type=int, default=1, metavar="N", help="processes, each with its threads (1)")
    add("--async-limit", type=int, default=1000, metavar="N", help="async consumers that a process runs at once (1000)")
    add("--deadline", type=float, default=60, metavar="S", help="report consumers that run longer (60; 0: none)")
    add("--shutdown-timeout", type=float, default=30, metavar="S", help="seconds for running consumers at a stop (30)")
    add("--only-channels", action="append", metavar="GLOB", help="listen only on these; may be given several times")
    add("--exclude-channels", action="append", metavar="GLOB", help="do not listen on these")
    add("-v", "--verbosity", type=int, choices=(0, 1, 2, 3), default=1, help="0 warnings, 1 information, 2, 3 more")
    add("channel_layer", metavar="module:attribute", help="what fastchannels.asgi.get_channel_layer() returned")


# ---------------------------------------------------------------------------------------------------- commands


def _start(verbosity: int, level: str | None = None, form: str = _LOG_FORMAT, directory: str = ".") -> None:
    """Log to standard error, and let modules of ``directory`` be imported."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG, logging.DEBUG)
    logging.basicConfig(level=level.upper() if level else levels[verbosity], format=form)
    logging.getLogger("asyncio").setLevel(logging.DEBUG if verbosity == 3 else logging.WARNING)
    sys.path.insert(0, os.path.abspath(directory))


def _complain(program: str, error: Exception) -> None:
    print(f"{program}: {error}", file=sys.stderr)


def _run_server(flags: argparse.Namespace) -> int:
    try:
        config, launch = resolve(flags)
        endpoints = endpoints_of(config)
    except (OptionError, EndpointError) as error:
        _complain("fastchannels-server", error)
        return 2
    _start(launch.verbosity, launch.log_level, launch.log_fmt, launch.app_dir)
    for line in unknown_variables():
        logger.warning("%s", line)
    if launch.workers is None and not launch.reload and config.limit_max_requests is None:
        return _serve(config, launch)
    # Imported before the fork, so that the workers share it.
    import fastchannels.server.server as _server  # noqa: F401

    try:
        listeners = open_listeners(endpoints)
        for listener in listeners:
            logger.info("Listening on %s", listener.url)
            if listener.tls is not None:
                tls_context(listener.tls)
        patience = 2 * config.graceful_timeout + config.drain_seconds + config.application_close_timeout
        watched = (launch.reload_dirs or ["."]) if launch.reload else []
        status = Supervisor(launch.workers or 1, patience, watched).run()
    except Born as worker:
        return _serve(config, launch, listeners, worker.leash)
    except UsageError as error:
        logger.critical("%s", error)
        return 1
    close_listeners(listeners)
    return status


def _serve(
    config: Config, launch: Launch, listeners: Sequence[Listener] | None = None, leash: Leash | None = None
) -> int:
    """Import the application and serve it in this process."""
    from fastchannels.server.server import Server

    try:
        mode = _mode(launch)
    except TargetError as error:
        _complain("fastchannels-server", error)
        return 2
    try:
        Server(config, **mode, listeners=listeners).run(leash)
    except UsageError as error:
        logger.critical("%s", error)
        return 1
    return 0


def _mode(launch: Launch) -> dict[str, Any]:
    """Channel mode for a layer or what wraps one; otherwise an ASGI application (design section 2)."""
    name = launch.application
    if name is None:
        raise TargetError("what is to be served? Give module:attribute, of an ASGI application or a channel layer")
    target = load_target(name, "application")
    if launch.factory:
        if not callable(target):
            raise TargetError(f"{name} is {target!r}: --factory needs something to call")
        try:
            target = target()
        except Exception as error:
            raise TargetError(_failure(f"{name}() failed", error)) from error
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
    if options.processes < 1:
        _complain("fastchannels-worker", UsageError(f"--processes {options.processes}: at least 1 is needed"))
        return 2
    if options.processes == 1:
        return _work(options)
    from fastchannels.management.processes import run_processes

    # The project is imported in each process, so that SIGHUP brings new code.
    return run_processes(options.processes, options.shutdown_timeout, lambda: _work(options, signal_handlers=False))


def _work(options: argparse.Namespace, signal_handlers: bool = True) -> int:
    """Import the project and run its consumers in this process."""
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
            shutdown_timeout=options.shutdown_timeout,
            deadline=options.deadline or None,
            async_limit=options.async_limit,
            signal_handlers=signal_handlers,
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
    return _failure(f"module {name!r} cannot be imported", error)


def _failure(what: str, error: Exception) -> str:
    """One line for code of the project that raised; the whole story goes to the debug log."""
    logger.debug("%s", what, exc_info=error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    text = " ".join(str(error).split())
    return f"{what}: {type(error).__name__}: {text}{place}; -v 2 shows the traceback"


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
