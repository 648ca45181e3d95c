"""A check of django-cacheops' settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cacheops.conf import prepare_profiles

from django_pgnudge.checks.ids import message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.checks import CheckMessage


def check_cacheops(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """What the daemon cannot reach."""
    return list(_messages())


def _messages() -> Iterator[CheckMessage]:
    for name, profile in prepare_profiles().items():
        if profile is not None and profile["local_get"]:
            yield message(
                "W012",
                f'CACHEOPS[{name!r}] has "local_get": what a process keeps in its own memory,'
                " neither django-cacheops nor runnudge ends.",
                'Remove "local_get".',
            )
