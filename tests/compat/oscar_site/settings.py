"""A django-oscar shop as its documentation sets one up, with catalogue pages of its own beside."""

from __future__ import annotations

from typing import Any

from oscar.defaults import *  # noqa: F403

from benchmarks.served.oscar_site.installed import OSCAR_APPS
from tests.compat.environment import (
    CACHES,
    DATABASE,
    LOGGING,
    MIDDLEWARE,
    SILENCED_SYSTEM_CHECKS,
    TEMPLATES,
)

__all__ = ["CACHES", "LOGGING", "SILENCED_SYSTEM_CHECKS"]

DATABASES = {"default": DATABASE}
INSTALLED_APPS = [*OSCAR_APPS, "django_pgnudge"]
SITE_ID = 1
MIDDLEWARE = [*MIDDLEWARE, "oscar.apps.basket.middleware.BasketMiddleware"]
TEMPLATES[0]["OPTIONS"]["context_processors"] += [
    "oscar.apps.search.context_processors.search_form",
    "oscar.apps.checkout.context_processors.checkout",
    "oscar.core.context_processors.metadata",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
OSCAR_THUMBNAILER = "tests.compat.oscar_site.thumbnails.NoThumbnails"
ROOT_URLCONF = "tests.compat.oscar_site.urls"
SECRET_KEY = "compat"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

PGNUDGE: dict[str, Any] = {
    "INVALIDATE": {
        "catalogue.Product": ["product:{pk}"],
        # A stock record is another row than its product: its rule cannot name the product's key.
        "partner.StockRecord": ["product:*"],
        "catalogue.Category": "menu",
    },
    "NUDGED": {"LEASE": 5},
}
