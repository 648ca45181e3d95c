"""What both sites have."""

from __future__ import annotations

from typing import Any

from tests.compat.environment import CACHES as _CACHES
from tests.compat.environment import DATABASE, LOGGING
from tests.doc_pages import python_blocks

__all__ = [
    "CACHES", "DATABASES", "DEFAULT_AUTO_FIELD", "INSTALLED_APPS", "LOGGING", "PGNUDGE",
    "ROOT_URLCONF", "SECRET_KEY", "SILENCED_SYSTEM_CHECKS", "USE_TZ",
]  # fmt: skip

DATABASES: dict[str, Any] = {"default": DATABASE, "replica": DATABASE}
# The test app's own rules name the cache "fast".
CACHES: dict[str, Any] = {
    alias: {**_CACHES["default"], "KEY_PREFIX": alias} for alias in ("default", "fast", "queries")
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_pgnudge",
    "tests.shop",
    "tests.contrib.more",
]
ROOT_URLCONF = "tests.contrib.site_settings"
urlpatterns: list[Any] = []


def documented(mark: str) -> dict[str, Any]:
    """The settings that the documentation shows."""
    (block,) = python_blocks(mark)
    return {name: value for name, value in block.run().items() if name.isupper()}


def apps_to_add(mark: str) -> list[str]:
    """The apps of these settings that the sites do not have."""
    return [name for name in documented(mark)["INSTALLED_APPS"] if name not in INSTALLED_APPS]


SECRET_KEY = "contrib"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SILENCED_SYSTEM_CHECKS = ["django_pgnudge.W008"]
PGNUDGE: dict[str, Any] = {"NUDGED": {"LEASE": 5}}
