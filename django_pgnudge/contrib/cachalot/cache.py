"""django-cachalot's cache: a time for each table, and results that are older are not served.

``cachalot/monkey_patch.py``, ``_get_result_or_execute_query``: a result has the time at which it
was stored, by the clock of its host, and is served if no table of its query has a later time. So a
table's time must be later than that of whatever may be old. ``cachalot.api.invalidate`` sets the
time of the host it runs on. Two things make that too early here:

- the clock of the host that stored a result may be ahead of the daemon's;
- a query that began before the commit may store its result just behind the invalidation.

Hence the time that is set lies ahead, by ``PGNUDGE["NUDGED"]["SKEW"]``. For as long, queries of the
table are cached and not served.

The time is read back, since clients that ignore errors (``IGNORE_EXCEPTIONS`` of django-redis)
would say nothing. The key must not be deleted instead: ``get_last_invalidation``, which fragments
vary on, would go back to 0.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation
from cachalot.utils import filter_cachable
from django.conf import settings
from django.core.cache import caches as django_caches
from django.core.cache.backends.dummy import DummyCache
from django.db import connections

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.contrib.concerned_tables import ConcernedTables, db_tables
from django_pgnudge.errors import CacheError
from django_pgnudge.tenancy import names_tenants, serving
from django_pgnudge.third_party import Rows, Table, ThirdPartyCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django_pgnudge.registry import Registry

TRIES: Final = 5
"""How often a time is set that processes of the site overwrite with their own, earlier one."""


class Cachalot(ThirdPartyCache):
    """What cachalot keeps in the alias ``CACHALOT_CACHE``, of each PostgreSQL database.

    A replica's alias is another name of the same tables, so a change concerns all aliases.
    """

    name = "django_pgnudge.contrib.cachalot"

    def __init__(self) -> None:
        self._tables = ConcernedTables()

    def invalidate(self, changes: Mapping[Table, Rows], registry: Registry) -> int:
        """Raises CacheError."""
        more = cachalot_settings.CACHALOT_ADDITIONAL_TABLES
        return self._invalidate(self._tables.concerned(changes, registry, more), registry)

    def invalidate_all(self, registry: Registry) -> int:
        """Raises CacheError."""
        more = cachalot_settings.CACHALOT_ADDITIONAL_TABLES
        return self._invalidate({*db_tables(), *more}, registry)

    def incarnation(self) -> str | None:
        return caches.incarnation(cachalot_settings.CACHALOT_CACHE)

    def _invalidate(self, named: Iterable[str], registry: Registry) -> int:
        tables = filter_cachable(set(named))
        alias = cachalot_settings.CACHALOT_CACHE
        pairs = [(database, table) for database in _databases() for table in tables]
        if not pairs or isinstance(django_caches[alias], DummyCache):
            return 0
        key_of = cachalot_settings.CACHALOT_TABLE_KEYGEN
        for tenant in _tenants(alias, registry):
            with serving(tenant):
                _set_time(alias, [key_of(*pair) for pair in pairs])
        for database, table in pairs:
            post_invalidation.send_robust(table, db_alias=database)
        return len(pairs)


def _set_time(alias: str, keys: list[str]) -> None:
    cache: Any = django_caches[alias]
    for _ in range(TRIES):
        ahead = time.time() + float(conf.NUDGED["SKEW"])
        try:
            cache.set_many(dict.fromkeys(keys, ahead), cachalot_settings.CACHALOT_TIMEOUT)
            found = cache.get_many(keys)
        except Exception as exc:
            raise CacheError(
                f"Cache {alias!r} of django-cachalot failed: {type(exc).__name__}: {exc}"
            ) from exc
        keys = [key for key in keys if not _is_later(found.get(key), ahead)]
        if not keys:
            return
    raise CacheError(
        f"Cache {alias!r} of django-cachalot did not keep the times of {len(keys)} tables"
    )


def _is_later(found: object, wanted: float) -> bool:
    return isinstance(found, float) and found >= wanted


def _databases() -> list[str]:
    return [
        alias
        for alias in settings.DATABASES
        if alias in cachalot_settings.CACHALOT_DATABASES
        and connections[alias].vendor == "postgresql"
    ]


def _tenants(alias: str, registry: Registry) -> list[str | None]:
    """Whose keys to set: those of all tenants, since all may read a table of another schema."""
    return [*sorted(registry.schemas())] if names_tenants(alias) else [None]
