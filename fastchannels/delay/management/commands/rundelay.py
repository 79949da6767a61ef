"""``manage.py rundelay``: the delay server."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fastchannels import DEFAULT_CHANNEL_LAYER
from fastchannels.asgi import channel_layers
from fastchannels.delay.worker import Worker
from fastchannels.layers.memory import InMemoryChannelLayer

__all__ = ["Command"]


class Command(BaseCommand):
    """Keeps the messages of ``asgi.delay`` in the database until they are due. Several may run."""

    help = "Sends the messages that asked for a delay."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options of Channels 1.x."""
        parser.add_argument("--layer", default=DEFAULT_CHANNEL_LAYER, help="alias of the channel layer (default)")
        parser.add_argument(
            "--sleep", type=float, default=1, metavar="S", help="seconds between two looks for what is due (1)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        layer = channel_layers[options["layer"]]
        if isinstance(layer.layer, InMemoryChannelLayer):
            raise CommandError(
                f"the channel layer {layer} lives in one process, so nothing can reach rundelay: "
                "use the local or the Redis layer"
            )
        if options["sleep"] <= 0:
            raise CommandError(f"--sleep {options['sleep']}: more than 0 seconds are needed")
        self.stdout.write(f"Running delay against the channel layer {layer}")
        Worker(layer, database_sleep_duration=options["sleep"]).run()
