"""A small Wagtail site, as `wagtail start` makes one, with its pages below `nudged_page`."""

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
    "tests.compat.wagtail_site",
    "wagtail.contrib.redirects",
    "wagtail.contrib.settings",
    "wagtail.users",
    "wagtail.snippets",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_pgnudge",
]
MIDDLEWARE = [*MIDDLEWARE, "wagtail.contrib.redirects.middleware.RedirectMiddleware"]
ROOT_URLCONF = "tests.compat.wagtail_site.urls"
SECRET_KEY = "compat"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
ALLOWED_HOSTS = ["*"]
WAGTAIL_SITE_NAME = "Compat"
WAGTAILADMIN_BASE_URL = "http://testserver"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

PGNUDGE: dict[str, Any] = {
    "PUBLICATION": "site",
    "INVALIDATE": {
        # Wagtail keeps the paths of its sites in the cache, and deletes them by signals alone.
        label: {"keys": "wagtail_site_root_paths", "version": 2}
        for label in ("wagtailcore.Site", "wagtailcore.Page", "wagtailcore.Locale")
    },
    "NUDGED": {"LEASE": 5},
}
