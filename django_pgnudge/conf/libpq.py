"""What libpq is told: ``DATABASES``, and ``PGNUDGE["CONNECTION"]`` over it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_pgnudge.conf import conf
from django_pgnudge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_DRIVER_ONLY: Final = frozenset({
    "autocommit", "connection_factory", "context", "cursor_factory", "prepare_threshold",
    "row_factory", "async", "async_",
})  # fmt: skip
"""What Django hands to psycopg and psycopg does not hand on to libpq."""

ANY_SERVER: Final = frozenset({"", "any"})
"""Values of ``target_session_attrs`` that ask for nothing."""


def may_lead_to_a_standby(using: str) -> bool:
    """Whether several hosts are named, of which libpq takes the first that answers, whatever it is.

    Told without a connection, so what a service file says does not count. Raises ConfigError.
    """
    params = libpq_params(using)

    def said(name: str) -> str:
        return str(params.get(name) or os.environ.get(f"PG{name.upper().replace('_', '')}", ""))

    return names_several(said) and said("target_session_attrs") in ANY_SERVER


def libpq_params(using: str) -> dict[str, Any]:
    """libpq's keywords for a database alias, before libpq fills in the rest. Raises ConfigError."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        msg = (
            f'DATABASES["{using}"] is not PostgreSQL but {connection.vendor}: set '
            'PGNUDGE["DATABASE"] (or --database) to the alias of a PostgreSQL database.'
        )
        raise ConfigError(msg)
    try:
        params: dict[str, Any] = connection.get_connection_params()
    except ImproperlyConfigured as exc:
        raise ConfigError(str(exc)) from exc
    params = {name: value for name, value in params.items() if name not in _DRIVER_ONLY}
    overrides: dict[str, Any] = dict(conf.CONNECTION)
    if "database" in overrides:
        overrides["dbname"] = overrides.pop("database")
    if "host" in overrides:
        # hostaddr wins over host in libpq: an address of the other server must not stay behind.
        params.pop("hostaddr", None)
    return {name: value for name, value in {**params, **overrides}.items() if value is not None}


def names_several(said: Callable[[str], str]) -> bool:
    """Whether there are several servers to try, by what is said of a parameter."""
    return any("," in said(name) for name in ("host", "port", "hostaddr"))
