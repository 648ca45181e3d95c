"""The tables in which Django's database cache keeps keys.

What the daemon deletes in them comes back through the stream: to follow them would be a loop that
feeds itself, so they are never followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.db import router

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_tables(using: str) -> Iterator[str]:
    """As ``LOCATION`` of ``CACHES`` names them, those that are in this database."""
    for alias in settings.CACHES:
        try:
            cache = caches[alias]
        except Exception:  # noqa: S112 - a check says which cannot be used, and why
            continue
        if isinstance(cache, BaseDatabaseCache):
            model = cache.cache_model_class
            if using in (router.db_for_write(model), router.db_for_read(model)):
                table: str = vars(cache)["_table"]
                yield table
