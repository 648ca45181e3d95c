"""Keys that contain the current tenant: caches whose KEY_FUNCTION asks the database connection.

``django_tenants.cache.make_key`` is such a function. The daemon serves no tenant, so it must set
one for each deletion.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from django.core.cache import caches
from django.db import DEFAULT_DB_ALIAS, connections

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBES: Final = ("pgnudge_a", "pgnudge_b")


def serving(tenant: str | None) -> AbstractContextManager[None]:
    """Set the tenant of this thread's connection for key functions; None changes nothing."""
    connection: Any = None if tenant is None else connections[DEFAULT_DB_ALIAS]
    return _serving(connection, tenant) if hasattr(connection, "set_tenant") else _NOBODY


_NOBODY: Final = nullcontext()


@contextmanager
def _serving(connection: Any, tenant: str | None) -> Iterator[None]:
    before = connection.schema_name
    connection.schema_name = tenant
    try:
        yield
    finally:
        connection.schema_name = before


def names_tenants(alias: str) -> bool:
    """Whether a cache's keys differ by tenant, found by building a key for two tenants."""
    if not hasattr(connections[DEFAULT_DB_ALIAS], "set_tenant"):
        return False
    made = set()
    for tenant in _PROBES:
        with serving(tenant):
            try:
                made.add(caches[alias].make_key("pgnudge"))
            except Exception:  # a system check reports what is wrong with the cache
                return False
    return len(made) > 1
