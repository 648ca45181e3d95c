"""The schemas a value is read in, where one site serves tenants from several.

They are part of the value's name and of the names of its tables. Only the site knows which tenant
it serves. ``PGNUDGE["NUDGED"]["SCOPE"]`` tells it, and so do the database backends of
django-tenants and django-tenant-schemas. `bypass` asks PostgreSQL whether it is true.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final, TypeAlias

from django.conf import settings
from django.db import connections
from django.db.utils import load_backend

from django_pgnudge.conf import conf
from django_pgnudge.errors import ConfigError

Scope: TypeAlias = tuple[str, ...] | None
"""The names of the schemas in order; None for those that each connection begins with."""

UNKNOWN_SCOPE: Final[tuple[str, ...]] = ("",)
"""For a tenant that this thread's connection does not know; no schema has an empty name."""


def scope_of(using: str) -> Scope:
    """The scope of what is read from a database alias here and now.

    Raises ConfigError if ``SCOPE`` returns no schema path.
    """
    function = conf.NUDGED["SCOPE"]
    if function is not None:
        return _checked(function(using))
    if not _serves_tenants(connections.settings[using]["ENGINE"]):
        return None
    # Queries of async code run in another thread, on another connection, with another tenant.
    return UNKNOWN_SCOPE if on_loop() else scope_on(connections[using])


@functools.lru_cache(64)
def _serves_tenants(engine: str) -> bool:
    """Whether connections of a backend can be told a tenant."""
    return hasattr(load_backend(engine).DatabaseWrapper, "set_tenant")


def scope_on(connection: Any) -> Scope:
    """The scope of a statement that a connection is about to run."""
    function = conf.NUDGED["SCOPE"]
    if function is not None:
        return _checked(function(connection.alias))
    return _tenant_path(connection) if sets_path(connection) else None


def sets_path(connection: Any) -> bool:
    """Whether a backend sets search_path for each cursor, by the tenant that it is told."""
    return hasattr(connection, "set_tenant") and bool(getattr(connection, "schema_name", None))


def entry_name(name: str, scope: Scope) -> str:
    """The name of a value in its scope."""
    return name if scope is None else f"in {scope!r} {name}"


def on_loop() -> bool:
    """Whether this thread runs an event loop, which must not be made to wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _tenant_path(connection: Any) -> tuple[str, ...]:
    """As ``DatabaseWrapper._cursor`` of both packages makes it (django-tenants 4.0)."""
    tenant: str = connection.schema_name
    public: str = getattr(settings, "PUBLIC_SCHEMA_NAME", "public")
    shared = (public,) if tenant != public and connection.include_public_schema else ()
    return (tenant, *shared, *getattr(settings, "PG_EXTRA_SEARCH_PATHS", ()))


def _checked(answer: Any) -> Scope:
    if answer is None:
        return None
    if isinstance(answer, list | tuple) and answer:
        path = tuple(answer)
        if all(isinstance(schema, str) and schema for schema in path):
            return path
    raise ConfigError(
        f'PGNUDGE["NUDGED"]["SCOPE"] answered {answer!r}, which is no search_path. Return a tuple'
        " of schema names, or None."
    )
