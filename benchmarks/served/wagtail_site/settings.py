"""As `wagtail start` writes them."""

from __future__ import annotations

from benchmarks.served import settings as shared
from benchmarks.served.settings import CACHES, DATABASES, LOGGING, TEMPLATES

__all__ = ["CACHES", "DATABASES", "LOGGING", "TEMPLATES"]

INSTALLED_APPS = [
    "benchmarks.served.wagtail_site.apps.DemoConfig",
    "wagtail.contrib.forms",
    "wagtail.contrib.redirects",
    "wagtail.embeds",
    "wagtail.sites",
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
    *shared.MORE_APPS,
]
MIDDLEWARE = [
    *shared.FIRST_MIDDLEWARE,
    *shared.MIDDLEWARE,
    "wagtail.contrib.redirects.middleware.RedirectMiddleware",
    *shared.LAST_MIDDLEWARE,
]
ROOT_URLCONF = "benchmarks.served.wagtail_site.urls"
SECRET_KEY = "of no use"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = shared.SITE["media"]
ALLOWED_HOSTS = ["*"]
WAGTAIL_SITE_NAME = "Demo"
WAGTAILADMIN_BASE_URL = "http://localhost"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
globals().update(shared.MORE)
