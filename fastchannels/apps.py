"""The Django app."""

from __future__ import annotations

import importlib
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register


class FastChannelsConfig(AppConfig):
    """Brings the commands, looks at the settings when Django starts, connects the bindings, and speeds up Channels."""

    name = "fastchannels"
    label = "fastchannels"
    verbose_name = "fastchannels"

    def ready(self) -> None:
        """Raise ``ImproperlyConfigured`` for settings that this version cannot follow."""
        from fastchannels import fast_dispatch
        from fastchannels.asgi import channel_layers
        from fastchannels.binding.base import BindingMetaclass
        from fastchannels.sessions import check_settings

        channel_layers.check_settings()
        check_settings()
        BindingMetaclass.register_all()
        fast_dispatch.install()
        if self.apps is not None and self.apps.is_installed("django.contrib.auth"):
            # A logout, in whatever process, closes the sockets of its session.
            importlib.import_module("fastchannels.auth")
        register(check_order)


def check_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The first app that has a command wins it: ours must stand before the others that have ``runserver``."""
    from django.apps import apps

    from fastchannels.asgi import channel_layers

    names = [config.name for config in apps.get_app_configs()]
    rivals = ["django.contrib.staticfiles"]
    if any(channel_layers.routing(alias) is not None for alias in channel_layers.configs):
        # Their commands know nothing of channel routing; without routing they are a choice.
        rivals += ["daphne", "channels"]
    late = [name for name in names[: names.index("fastchannels")] if name in rivals]
    if not late:
        return []
    return [
        Error(
            f"fastchannels stands after {', '.join(late)} in INSTALLED_APPS, so its commands are not used.",
            hint="Put 'fastchannels' first.",
            id="fastchannels.E001",
        )
    ]
