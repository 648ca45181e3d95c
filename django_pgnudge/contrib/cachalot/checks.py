"""A check of django-cachalot's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachalot.settings import cachalot_settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from django_pgnudge.checks.ids import message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.checks import CheckMessage


def check_cachalot(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """What the daemon cannot reach."""
    return list(_messages())


def _messages() -> Iterator[CheckMessage]:
    alias = cachalot_settings.CACHALOT_CACHE
    if isinstance(caches[alias], LocMemCache):
        yield message(
            "W012",
            f"CACHALOT_CACHE is {alias!r}, a LocMemCache: runnudge is a separate process and cannot"
            " tell other processes' memory of changes.",
            "Use a cache that processes share, such as Redis.",
        )
