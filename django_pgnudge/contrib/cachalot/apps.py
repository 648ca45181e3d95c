"""The app that stands beside ``cachalot`` in ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from django_pgnudge.checks import TAG
from django_pgnudge.contrib.needs import need
from django_pgnudge.third_party import register


class CachalotConfig(AppConfig):
    """``INSTALLED_APPS = [..., "cachalot", "django_pgnudge.contrib.cachalot"]``."""

    name = "django_pgnudge.contrib.cachalot"
    label = "pgnudge_cachalot"

    def ready(self) -> None:
        need(self.name, "cachalot", "django-cachalot")
        from django_pgnudge.contrib.cachalot.cache import Cachalot  # noqa: PLC0415
        from django_pgnudge.contrib.cachalot.checks import check_cachalot  # noqa: PLC0415

        register(Cachalot())
        checks.register(check_cachalot, TAG)
