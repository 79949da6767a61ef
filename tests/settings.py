"""Django settings of the tests; tests/conftest.py configures Django with them."""

ALLOWED_HOSTS = ["*"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "fastchannels.layers.memory.InMemoryChannelLayer"}}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        # One database in memory for all threads, as long as one of them is connected.
        "NAME": "file:tests?mode=memory&cache=shared",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FASTCHANNELS_ROUTING = {"default": []}
INSTALLED_APPS = [
    "fastchannels",
    "fastchannels.delay",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others are slow by design
ROOT_URLCONF = "tests.urls"
SECRET_KEY = "only for the tests"
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
STATIC_URL = "/static/"
USE_TZ = True
