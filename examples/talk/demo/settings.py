import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SHARED = BASE_DIR.parent / "shared"  # the page, which both examples use
VAR = BASE_DIR / "var"
VAR.mkdir(exist_ok=True)

SECRET_KEY = "only for the demo"
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = ["fastchannels", "django.contrib.staticfiles", "chat"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "demo.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [SHARED / "templates"]}]
STATIC_URL = "/static/"
STATICFILES_DIRS = [SHARED / "static"]
TIME_ZONE = "UTC"

# What joins the protocol server and the workers: queues and groups in shared memory, on this machine.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "fastchannels.layers.local.LocalChannelLayer",
        "CONFIG": {"path": os.environ.get("CHAT_LAYER", str(VAR / "layer"))},
    },
}
FASTCHANNELS_ROUTING = {"default": "demo.routing.channel_routing"}
