"""``manage.py runserver``: the protocol server for development.

With channel routing the server process stays and only its worker starts again at a change of a file, so open sockets
stay open. Without it, the process serves ``ASGI_APPLICATION`` and starts again as a whole, as Django's own does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.core.management.commands.runserver import Command as RunserverCommand
from django.utils import autoreload

from fastchannels import DEFAULT_CHANNEL_LAYER, __version__
from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.exceptions import InvalidChannelLayerError, UsageError
from fastchannels.handler import default_consumer
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.management.commands.runworker import project_directories, set_up_log
from fastchannels.routing import ImportFailure, import_dotted
from fastchannels.server.server import Config, Server, new_event_loop
from fastchannels.worker import WorkerGroup, prepare_workers

#: The name that projects know from Daphne, for settings.LOGGING.
request_log = logging.getLogger("django.channels.server")

#: Workers of channel mode, unless --nothreading.
THREADS = 4
#: Exit status by which Django's reloader asks to be started again.
RELOAD = 3
#: Seconds between two looks at the files of the project, and until a worker that did not notice a change is ended:
#: the reloader in it does not see what is edited between the import of a file and its own first look.
LOOK = 0.5
OVERLOOKED = 2.0
#: Seconds that a worker gets to end, and a server to finish its responses.
PATIENCE = 6.0
GRACE = 1.0


class Command(RunserverCommand):
    """Serves the project; ``WSGI`` only with --noasgi, or where there is nothing else."""

    help = "Starts the protocol server for development, with workers when there is channel routing."

    # Set by handle() of the base class.
    addr: str
    port: str

    def close_server(self) -> None:
        """End the server of another thread in good order; replaced while there is one."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Django's options, those of its staticfiles, those of 1.x and of Daphne."""
        super().add_arguments(parser)  # type: ignore[arg-type]
        add = parser.add_argument
        add("--noworker", action="store_false", dest="run_worker", help="Start no worker beside the server.")
        add("--noasgi", action="store_false", dest="use_asgi", help="Run Django's own WSGI server.")
        add("--http_timeout", type=float, metavar="S", help="Seconds without progress of a request (60 with routing).")
        add("--websocket_handshake_timeout", type=float, default=5, metavar="S", help="Seconds to accept a socket (5).")
        add("--websocket-max-message-size", type=int, metavar="BYTES", help="Largest message; 0: no limit (1048576).")
        add("--websocket-max-frame-size", type=int, metavar="BYTES", help="Largest frame; 0: as the message (0).")
        parser.set_defaults(use_static_handler=True, insecure_serving=False)
        if apps.is_installed("django.contrib.staticfiles"):
            add("--nostatic", action="store_false", dest="use_static_handler", help="Do not serve static files.")
            add("--insecure", action="store_true", dest="insecure_serving", help="Serve them without DEBUG too.")

    # ------------------------------------------------------------------ what to serve

    def run(self, **options: Any) -> None:
        """Decide what to serve, and what starts again when a file changes."""
        set_up_log(options["verbosity"])
        self.set_up_request_log()
        self.layer: ChannelLayerWrapper | None = None
        self.application = getattr(settings, "ASGI_APPLICATION", None)
        if options["use_asgi"]:
            try:
                if channel_layers.routing(DEFAULT_CHANNEL_LAYER) is not None:
                    self.layer = channel_layers[DEFAULT_CHANNEL_LAYER]
            except (ImproperlyConfigured, InvalidChannelLayerError) as error:
                raise CommandError(str(error)) from error
        if self.layer is None and not (options["use_asgi"] and self.application):
            return super().run(**options)
        alone = self.layer is None or isinstance(self.layer.layer, InMemoryChannelLayer)
        if not options["use_reloader"]:
            try:
                self.serve(options)
            except ImproperlyConfigured as error:
                raise CommandError(str(error)) from error
        elif alone:
            try:
                autoreload.run_with_reloader(self.serve_reloading, options)
            finally:
                # Here and not by atexit: by then Python takes no more work for the executors that consumers end with.
                self.close_server()
        else:
            self.serve_beside_a_worker(options)

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """The WSGI application, behind static files as with Django's staticfiles."""
        handler = super().get_handler(*args, **options)
        return StaticFilesHandler(handler) if _serves_static(options) else handler

    def serve_beside_a_worker(self, options: dict[str, Any]) -> None:
        """Channel mode: this process stays, its worker is a child that starts again."""
        assert self.layer is not None
        worker = WorkerProcess(_worker_arguments(options), self.say) if options["run_worker"] else None
        server = self.server(options, lambda: worker.start() if worker else None)
        try:
            self.run_server(server)
        finally:
            if worker is not None:
                worker.stop()

    def serve_reloading(self, options: dict[str, Any]) -> None:
        """What runs under Django's autoreloader, in a thread."""
        autoreload.raise_last_exception()
        if self.layer is not None:
            self.say(
                f"The channel layer {self.layer.alias!r} lives in this process, so sockets close at each reload. "
                "Sockets that stay open: BACKEND 'fastchannels.layers.local.LocalChannelLayer' in CHANNEL_LAYERS."
            )
        self.serve(options)

    def serve(self, options: dict[str, Any]) -> None:
        """The server, and with routing its workers, in this process."""
        if not options["skip_checks"]:
            self.say("Performing system checks...\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        if self.layer is None:
            self.run_server(self.server(options))
            return
        with self.workers(self.layer, options) if options["run_worker"] else nullcontext():
            self.run_server(self.server(options))

    @contextmanager
    def workers(self, layer: ChannelLayerWrapper, options: dict[str, Any]) -> Iterator[WorkerGroup]:
        """Workers in threads of this process."""
        group = prepare_workers(
            layer,
            in_process=True,
            http_consumer=default_consumer(options["use_static_handler"], options["insecure_serving"]),
            n_threads=THREADS if options["use_threading"] else 1,
            signal_handlers=False,
            shutdown_timeout=GRACE,
        )
        thread = threading.Thread(target=group.run, name="fastchannels-workers", daemon=True)
        group.ready()
        thread.start()
        try:
            yield group
        finally:
            group.stop()
            thread.join(PATIENCE)

    # ------------------------------------------------------------------ the server

    def server(self, options: dict[str, Any], ready: Callable[[], object] = lambda: None) -> Server:
        """The server of the layer or of the application; ``ready`` is called when it listens."""
        http_timeout = options["http_timeout"]
        if http_timeout is None and self.layer is not None:
            http_timeout = 60.0
        config = Config(
            host="0.0.0.0" if self.addr == "0" else self.addr,
            port=int(self.port),
            root_path=settings.FORCE_SCRIPT_NAME or "",
            http_timeout=http_timeout,
            websocket_connect_timeout=options["websocket_handshake_timeout"],
            ws_protocols=getattr(settings, "CHANNELS_WS_PROTOCOLS", ()),
            graceful_timeout=GRACE,
        )
        config.ws_max_size = _size_limit(options, "message", config.ws_max_size)
        config.ws_max_frame_size = _size_limit(options, "frame", config.ws_max_frame_size)

        def listening(server: Server) -> None:
            self.banner(server)
            ready()

        if self.layer is not None:
            return Server(config, layer=self.layer.layer, action_logger=self.log_action, ready=listening)
        application = self.asgi_application(options)
        return Server(config, application=application, action_logger=self.log_action, ready=listening)

    def asgi_application(self, options: dict[str, Any]) -> Any:
        """``ASGI_APPLICATION``, behind static files. ``ImproperlyConfigured`` when it cannot be imported."""
        try:
            application = import_dotted(str(self.application))
        except ImportFailure as failure:
            raise ImproperlyConfigured(f"ASGI_APPLICATION {self.application!r}: {failure}") from failure.__cause__
        return ASGIStaticFilesHandler(application) if _serves_static(options) else application

    def run_server(self, server: Server) -> None:
        """Serve until a signal, or until the process ends when this is not the main thread."""
        try:
            if threading.current_thread() is threading.main_thread():
                server.run()
            else:
                self.run_in_thread(server)
        except UsageError as error:
            self.stderr.write(f"Error: {error}")
            sys.stderr.flush()
            if threading.current_thread() is threading.main_thread():
                sys.exit(1)
            # sys.exit would end this thread only.
            os._exit(1)

    def run_in_thread(self, server: Server) -> None:
        """Serve on a loop of this thread until :meth:`close_server`."""
        loop = new_event_loop()
        try:
            task = loop.create_task(server.serve(install_signals=False))
            ended = threading.Event()

            def close() -> None:
                if not ended.is_set():
                    loop.call_soon_threadsafe(task.cancel)
                    ended.wait(GRACE + 1)

            self.close_server = close  # type: ignore[method-assign]
            try:
                loop.run_until_complete(task)
            except asyncio.CancelledError:
                pass
            finally:
                ended.set()
        finally:
            loop.close()

    # ------------------------------------------------------------------ what a person sees

    def say(self, text: str) -> None:
        """One line on standard output, at once."""
        self.stdout.write(text)
        self.stdout.flush()

    def banner(self, server: Server) -> None:
        """Tell where the server listens and how to end it."""
        key = "CTRL-BREAK" if sys.platform == "win32" else "CONTROL-C"
        served = f"channel layer {self.layer}" if self.layer is not None else f"ASGI application {self.application}"
        self.say(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"fastchannels {__version__} serves the {served}\n"
            f"Starting development server at {', '.join(f'{url}/' for url in server.urls)}\n"
            f"Quit the server with {key}."
        )

    def set_up_request_log(self) -> None:
        """Show the lines of requests, unless settings.LOGGING says where they go."""
        if not request_log.handlers:
            handler = logging.StreamHandler(self.stdout)
            handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%Y/%m/%d %H:%M:%S"))
            request_log.addHandler(handler)
            request_log.setLevel(logging.INFO)
            request_log.propagate = False

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """One line for each response and each step of a socket."""
        level = logging.INFO
        if protocol == "http" and action == "complete":
            status = details["status"]
            line = f"HTTP {details['method']} {details['path']} {status} "
            line += f"[{details['time_taken']:.2f}, {details['client']}]"
            style = self.style.HTTP_INFO if status < 200 else self.style.HTTP_SUCCESS
            if status == 304:
                style = self.style.HTTP_NOT_MODIFIED
            elif 300 <= status < 400:
                style = self.style.HTTP_REDIRECT
            elif status >= 500:
                level, style = logging.ERROR, self.style.HTTP_SERVER_ERROR
            elif status >= 400:
                level = logging.WARNING
                style = self.style.HTTP_NOT_FOUND if status == 404 else self.style.HTTP_BAD_REQUEST
        else:
            words = {"connecting": "HANDSHAKING", "connected": "CONNECT", "rejected": "REJECT"}
            line = f"WebSocket {words.get(action, 'DISCONNECT')} {details['path']} [{details['client']}]"
            style = self.style.WARNING if action == "rejected" else self.style.HTTP_INFO
        request_log.log(level, "%s", style(line))


class WorkerProcess:
    """The worker of ``runserver``: a child that is started again when it asks for it, or when a broken one was edited.

    The child is ``runworker --reload``: it watches the files itself and ends with :data:`RELOAD` at a change. This
    process looks at them too, for a child that cannot even start and for changes that the child overlooked.
    """

    def __init__(self, arguments: list[str], say: Callable[[str], None]) -> None:
        self.arguments = arguments
        self.say = say
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="fastchannels-supervisor", daemon=True)

    def start(self) -> None:
        """Start the child and look after it."""
        self._thread.start()

    def stop(self) -> None:
        """End the child: politely, then after :data:`PATIENCE` seconds not."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        self._thread.join(PATIENCE)

    def _supervise(self) -> None:
        environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
        while True:
            files = _snapshot()
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = subprocess.Popen(self.arguments, env=environment, close_fds=False)
            status = self._await_end(self._process, files)
            if self._stopping.is_set():
                return
            if status not in (RELOAD, None):
                self.say(f"The worker ended with status {status}. It starts again when a file of the project changes.")
                while _snapshot() == files:
                    if self._stopping.wait(LOOK):
                        return

    def _await_end(self, process: subprocess.Popen[bytes], files: dict[str, float]) -> int | None:
        """The status of the child when it ended by itself; None when it was ended for a change that it overlooked."""
        overlooked = 0.0
        while True:
            try:
                return process.wait(LOOK)
            except subprocess.TimeoutExpired:
                overlooked = overlooked + LOOK if _snapshot() != files else 0.0
            if overlooked >= OVERLOOKED:
                process.terminate()
                process.wait()
                return None


def _snapshot() -> dict[str, float]:
    """The Python files of the project and when each was changed."""
    found = {}
    for directory in project_directories():
        for path in directory.glob("**/*.py"):
            try:
                found[str(path)] = path.stat().st_mtime
            except OSError:
                # It vanished in between; then it is no part of the snapshot.
                continue
    return found


def _worker_arguments(options: dict[str, Any]) -> list[str]:
    """The command line of the worker, by the same interpreter and script as this process."""
    command = ["runworker", "--reload", f"--threads={THREADS if options['use_threading'] else 1}"]
    command.append(f"--verbosity={options['verbosity']}")
    for name, flag in (("traceback", "--traceback"), ("no_color", "--no-color"), ("force_color", "--force-color")):
        if options.get(name):
            command.append(flag)
    if options.get("skip_checks"):
        command.append("--skip-checks")
    if options.get("pythonpath"):
        command.append(f"--pythonpath={options['pythonpath']}")
    if options.get("insecure_serving"):
        command.append("--insecure")
    if not options.get("use_static_handler", True):
        command.append("--nostatic")
    before = sys.argv
    sys.argv = [before[0], *command]
    try:
        return [str(argument) for argument in autoreload.get_child_arguments()]
    finally:
        sys.argv = before


def _size_limit(options: dict[str, Any], what: str, default: int) -> int:
    """The option, or Daphne's setting for it."""
    given: int | None = options[f"websocket_max_{what}_size"]
    return getattr(settings, f"DAPHNE_WEBSOCKET_MAX_{what.upper()}_SIZE", default) if given is None else given


def _serves_static(options: dict[str, Any]) -> bool:
    wanted = options["use_static_handler"] and (settings.DEBUG or options["insecure_serving"])
    return bool(wanted and apps.is_installed("django.contrib.staticfiles"))
