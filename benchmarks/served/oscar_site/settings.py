"""As its sandbox has them, without a search engine and without pictures."""

from __future__ import annotations

from oscar.defaults import *  # noqa: F403

from benchmarks.served import settings as shared
from benchmarks.served.oscar_site.installed import OSCAR_APPS
from benchmarks.served.settings import CACHES, DATABASES, LOGGING, TEMPLATES

__all__ = ["CACHES", "DATABASES", "LOGGING", "TEMPLATES"]

PUBLIC = "benchmarks.served.oscar_site.public"
INSTALLED_APPS = [*OSCAR_APPS, f"{PUBLIC}.PublicConfig", *shared.MORE_APPS]
SITE_ID = 1
MIDDLEWARE = [
    *shared.FIRST_MIDDLEWARE,
    *shared.MIDDLEWARE,
    "oscar.apps.basket.middleware.BasketMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
    *shared.LAST_MIDDLEWARE,
]
TEMPLATES[0]["OPTIONS"]["context_processors"] += [
    "oscar.apps.search.context_processors.search_form",
    "oscar.apps.checkout.context_processors.checkout",
    "oscar.apps.communication.notifications.context_processors.notifications",
    "oscar.core.context_processors.metadata",
]
TEMPLATES[0]["OPTIONS"]["builtins"] = [PUBLIC]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
OSCAR_THUMBNAILER = "tests.compat.oscar_site.thumbnails.NoThumbnails"
OSCAR_DEFAULT_CURRENCY = "GBP"
ROOT_URLCONF = "benchmarks.served.oscar_site.urls"
SECRET_KEY = "of no use"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = shared.SITE["media"]
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
globals().update(shared.MORE)
