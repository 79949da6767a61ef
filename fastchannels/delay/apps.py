"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class DelayConfig(AppConfig):
    """Its table is ``fastchannels_delay_delayedmessage``."""

    name = "fastchannels.delay"
    label = "fastchannels_delay"
    verbose_name = "fastchannels delay"
    default_auto_field = "django.db.models.BigAutoField"
