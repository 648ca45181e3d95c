"""The parameters for libpq: from ``DATABASES``, overridden by ``PGNUDGE["CONNECTION"]``."""

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
"""Parameters that Django passes to psycopg and that psycopg does not pass to libpq."""

ANY_SERVER: Final = frozenset({"", "any"})
"""Values of ``target_session_attrs`` that accept any server."""


def may_lead_to_a_standby(using: str) -> bool:
    """Whether libpq has several hosts and takes the first that answers, even a standby.

    Decided without a connection, so a service file is ignored. Raises ConfigError.
    """
    params = libpq_params(using)

    def said(name: str) -> str:
        return str(params.get(name) or os.environ.get(f"PG{name.upper().replace('_', '')}", ""))

    return names_several(said) and said("target_session_attrs") in ANY_SERVER


def libpq_params(using: str) -> dict[str, Any]:
    """libpq's keywords for a database alias, without libpq's defaults. Raises ConfigError."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        msg = (
            f'DATABASES["{using}"] is not PostgreSQL but {connection.vendor}. Set '
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
        # libpq prefers hostaddr to host, so the address of the other server must not remain.
        params.pop("hostaddr", None)
    return {name: value for name, value in {**params, **overrides}.items() if value is not None}


def names_several(said: Callable[[str], str]) -> bool:
    """Whether there are several servers to try; ``said`` returns the value of a parameter."""
    return any("," in said(name) for name in ("host", "port", "hostaddr"))
