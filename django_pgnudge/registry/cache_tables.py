"""The tables of Django's database cache.

A deletion by the daemon in such a table comes back through the stream. To follow these tables would
be an endless loop, so they are never followed.
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
    """The tables in this database, by their names in ``LOCATION`` of ``CACHES``."""
    for alias in settings.CACHES:
        try:
            cache = caches[alias]
        except Exception:  # noqa: S112 - a system check reports it
            continue
        if isinstance(cache, BaseDatabaseCache):
            model = cache.cache_model_class
            if using in (router.db_for_write(model), router.db_for_read(model)):
                table: str = vars(cache)["_table"]
                yield table
