"""What Django runs at start: registers checks, imports ``cachekeys``, watches connections."""

from __future__ import annotations

from django.apps import AppConfig


class PgNudgeConfig(AppConfig):
    """``INSTALLED_APPS = [..., "django_pgnudge"]``."""

    name = "django_pgnudge"
    verbose_name = "PostgreSQL nudges"

    def ready(self) -> None:
        from django_pgnudge import checks  # noqa: F401, PLC0415 - importing registers them
        from django_pgnudge.reader.query_watch import wrap_connections  # noqa: PLC0415
        from django_pgnudge.rules.registration import autodiscover  # noqa: PLC0415

        wrap_connections()
        autodiscover()
