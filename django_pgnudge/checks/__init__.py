"""System checks of the settings and of the database.

``manage.py check`` runs the first kind. ``manage.py check --database default`` and ``migrate`` run
both. Importing this module registers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.checks import Tags, register

from django_pgnudge.checks.ids import IDS, anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.apps import AppConfig
    from django.core.checks import CheckMessage

__all__ = ["IDS", "TAG", "anchor", "check_database", "check_settings"]

TAG = "pgnudge"


@register(TAG)
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The checks that need no connection."""
    from django_pgnudge.checks import static  # noqa: PLC0415 - models are not loaded at import

    return static.run()


@register(TAG, Tags.database)
def check_database(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """The checks of the server, if ``databases`` has its alias."""
    from django_pgnudge.checks import server  # noqa: PLC0415

    return server.run(databases or ())
