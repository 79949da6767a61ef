"""Django for the tests of the talk's modules.

Configured without ``DJANGO_SETTINGS_MODULE``, which the processes that some tests start would inherit.
"""

import django
from django.conf import settings

from tests import settings as values

settings.configure(**{name: getattr(values, name) for name in dir(values) if name.isupper()})
django.setup()
