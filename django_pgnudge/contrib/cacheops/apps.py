"""The app that stands beside ``cacheops`` in ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from django_pgnudge.checks import TAG
from django_pgnudge.contrib.needs import need
from django_pgnudge.third_party import register


class CacheopsConfig(AppConfig):
    """``INSTALLED_APPS = [..., "cacheops", "django_pgnudge.contrib.cacheops"]``."""

    name = "django_pgnudge.contrib.cacheops"
    label = "pgnudge_cacheops"

    def ready(self) -> None:
        need(self.name, "cacheops", "django-cacheops")
        from django_pgnudge.contrib.cacheops.cache import Cacheops  # noqa: PLC0415
        from django_pgnudge.contrib.cacheops.checks import check_cacheops  # noqa: PLC0415

        register(Cacheops())
        checks.register(check_cacheops, TAG)
