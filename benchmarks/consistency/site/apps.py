"""The app; what the daemon's process has that others do not is named in its settings."""

from __future__ import annotations

from django.apps import AppConfig

from benchmarks.consistency import broken
from benchmarks.consistency.site.settings import BROKEN, SLOWNESS


class SiteConfig(AppConfig):
    name = "benchmarks.consistency.site"
    label = "site"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if SLOWNESS:
            from . import receivers  # noqa: PLC0415 - signals need the app registry

            receivers.connect()
            broken.break_daemon(BROKEN)
