"""Django for the tests of the talk's modules.

Configured without ``DJANGO_SETTINGS_MODULE``, which the processes that some tests start would inherit.
"""

import gc
import random
import signal

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from tests import settings as values

settings.configure(**{name: getattr(values, name) for name in dir(values) if name.isupper()})
django.setup()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore it, and what the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_draws(request):
    """A test that draws random values draws the same ones in each run."""
    random.seed(request.node.nodeid)


@pytest.fixture(autouse=True, scope="module")
def nothing_unclosed():
    """What a module left unclosed is told at its end, and not in the later test in which the collector meets it."""
    yield
    gc.collect()


@pytest.fixture
def database():
    """Empty tables for all installed apps."""
    call_command("migrate", verbosity=0, run_syncdb=True)
    yield connection
    call_command("flush", verbosity=0, interactive=False)
    connection.close()
