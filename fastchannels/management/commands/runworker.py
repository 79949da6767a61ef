"""``manage.py runworker``: consumers in threads of this process, or of several."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.utils import autoreload

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.async_consumers import ASYNC_LIMIT
from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.handler import default_consumer
from fastchannels.management.processes import run_processes
from fastchannels.message import Message
from fastchannels.signals import worker_process_ready
from fastchannels.worker import DEADLINE, WorkerGroup, prepare_workers, run_workers

#: Seconds that running consumers get when a file changed.
RELOAD_PATIENCE = 5.0


class Command(BaseCommand):
    """Runs workers until SIGTERM or SIGINT; running consumers finish first."""

    help = "Runs the consumers of the channel routing. With channel names it is the command of Channels 4."
    leave_locale_alone = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of 1.x, and what ``runserver`` passes on."""
        add = parser.add_argument
        add("channels", nargs="*", help="Channels of Channels 4 consumers; leave it out for the channel routing.")
        add("--layer", default=DEFAULT_CHANNEL_LAYER, help="Alias of the channel layer (default).")
        add("--only-channels", action="append", metavar="GLOB", help="Listen only on these; may be repeated.")
        add("--exclude-channels", action="append", metavar="GLOB", help="Do not listen on these; may be repeated.")
        add("--threads", type=int, default=1, metavar="N", help="Consumers that run side by side (1).")
        add("--processes", type=int, default=1, metavar="N", help="Processes, each with its threads (1).")
        add(
            "--async-limit",
            type=int,
            default=ASYNC_LIMIT,
            metavar="N",
            help=f"Async consumers that a process runs at once ({ASYNC_LIMIT}).",
        )
        add(
            "--deadline",
            type=float,
            default=DEADLINE,
            metavar="S",
            help=f"Report longer consumers ({DEADLINE:g}; 0: none).",
        )
        add("--shutdown-timeout", type=float, default=30.0, metavar="S", help="Seconds for running consumers (30).")
        add("--reload", action="store_true", help="Start again when a file of the project changes.")
        add("--nostatic", action="store_false", dest="use_static_handler", help="Do not serve static files.")
        add("--insecure", action="store_true", dest="insecure_serving", help="Serve static files without DEBUG too.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the workers; ``CommandError`` for settings that leave nothing to do."""
        # Beside runserver, which starts it again at every edit, it keeps to what went wrong.
        set_up_log(options["verbosity"], logging.WARNING if options["reload"] else logging.INFO)
        if options["channels"]:
            return self.run_channels_4(options)
        if options["reload"]:
            if options["processes"] != 1:
                raise CommandError("--reload is for one process")
            self.group: WorkerGroup | None = None
            try:
                return autoreload.run_with_reloader(self.run_reloading, **options)
            finally:
                # The reloader leaves by sys.exit in the main thread, at a change of a file and at SIGTERM. Here and not
                # by atexit: by then Python takes no more work for the executors of async consumers.
                if self.group is not None:
                    self.group.join()
        try:
            if options["processes"] != 1:
                return self.run_processes(options)
            run_workers(self.channel_layer(options), **self.worker_options(options))
        except (ImproperlyConfigured, InvalidChannelLayerError) as error:
            raise CommandError(str(error)) from error

    def run_processes(self, options: dict[str, Any]) -> None:
        """Under a supervisor."""
        if options["processes"] < 1:
            raise CommandError(f"--processes {options['processes']}: at least 1 is needed")

        def run() -> int:
            run_workers(self.channel_layer(options), signal_handlers=False, **self.worker_options(options))
            return 0

        # What the checks of Django opened is of no use to two processes.
        connections.close_all()
        sys.exit(run_processes(options["processes"], options["shutdown_timeout"], run))

    def run_channels_4(self, options: dict[str, Any]) -> None:
        """Both apps may be installed, and the first one has the command (D-17)."""
        if not apps.is_installed("channels"):
            raise CommandError(
                "channel names are for consumers of Channels 4, which is not in INSTALLED_APPS; "
                "to take some channels of the routing only: --only-channels"
            )
        if options["reload"]:
            raise CommandError("--reload is for the channel routing, not for channel names")
        from channels.management.commands.runworker import Command as Channels4Command

        command = Channels4Command(stdout=self.stdout, stderr=self.stderr)
        command.handle(channels=options["channels"], layer=options["layer"], verbosity=options["verbosity"])

    def channel_layer(self, options: dict[str, Any]) -> ChannelLayerWrapper:
        """The layer to work on."""
        return channel_layers[options["layer"]]

    def worker_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The arguments of ``run_workers``."""
        return {
            "threads": options["threads"],
            "only_channels": options["only_channels"],
            "exclude_channels": options["exclude_channels"],
            "callback": self.consumer_called if options["verbosity"] > 1 else None,
            "http_consumer": default_consumer(options["use_static_handler"], options["insecure_serving"]),
            "shutdown_timeout": options["shutdown_timeout"],
            "deadline": options["deadline"] or None,
            "async_limit": options["async_limit"],
        }

    def consumer_called(self, channel: str, message: Message) -> None:
        """Tell of each message, with ``-v 2``."""
        self.stdout.write(f"{channel} {message.get('path', '')}".rstrip())

    def run_reloading(self, **options: Any) -> None:
        """What runs under Django's autoreloader, in a thread: the reloader has the main one."""
        autoreload.raise_last_exception()
        self.check_migrations()
        worker_options = self.worker_options(options)
        threads = worker_options.pop("threads")
        worker_options["shutdown_timeout"] = RELOAD_PATIENCE
        group = prepare_workers(self.channel_layer(options), n_threads=threads, signal_handlers=False, **worker_options)
        self.group = group
        watch_parent()
        worker_process_ready.send(sender=group)
        group.ready()
        group.run()


def set_up_log(verbosity: int, usual: int = logging.WARNING) -> None:
    """Show what the workers say, when settings.LOGGING does not say where it goes; ``usual`` is for ``-v 1``."""
    logger = logging.getLogger("fastchannels")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel((logging.WARNING, usual, logging.INFO, logging.DEBUG)[verbosity])


def project_directories() -> list[Path]:
    """Where the project's own code is: its settings and its apps, but nothing that was installed."""
    found = {Path(config.path) for config in apps.get_app_configs() if config.name.partition(".")[0] != "fastchannels"}
    module = sys.modules.get(settings.SETTINGS_MODULE or "")
    if module is not None and module.__file__:
        found.add(Path(module.__file__).parent)
    return sorted(path for path in found if not {"site-packages", "dist-packages"}.intersection(path.parts))


def watch_project(sender: autoreload.BaseReloader, **kwargs: Any) -> None:
    """Have the reloader look at modules too that could not be imported yet."""
    for directory in project_directories():
        sender.watch_dir(directory, "**/*.py")


autoreload.autoreload_started.connect(watch_project)


def watch_parent() -> None:
    """End this process when the one that started it is gone, also when that one was killed."""
    parent = os.getppid()

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="fastchannels-parent", daemon=True).start()
