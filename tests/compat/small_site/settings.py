"""A library: a tree of django-mptt, history of django-simple-history, an API of REST framework."""

from __future__ import annotations

from typing import Any

from tests.compat.environment import (
    CACHES,
    DATABASE,
    LOGGING,
    MIDDLEWARE,
    SILENCED_SYSTEM_CHECKS,
    TEMPLATES,
)

__all__ = ["CACHES", "LOGGING", "SILENCED_SYSTEM_CHECKS", "TEMPLATES"]

DATABASES = {"default": DATABASE}
INSTALLED_APPS = [
    "tests.compat.small_site",
    "mptt",
    "simple_history",
    "rest_framework",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_pgnudge",
]
MIDDLEWARE = [*MIDDLEWARE, "simple_history.middleware.HistoryRequestMiddleware"]
ROOT_URLCONF = "tests.compat.small_site.urls"
SECRET_KEY = "compat"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}

PGNUDGE: dict[str, Any] = {
    "INVALIDATE": {
        "small_site.Shelf": ["tree"],
        # The history's table has a model of its own, and a key of its own.
        "small_site.HistoricalBook": ["history"],
        "small_site.Book.readers": ["readers"],
    },
    "NUDGED": {"LEASE": 5},
}
