"""An application's own nudge, sent through the write-ahead log as changes are.

The module is not called ``emit``: the package exports the function under that name.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import connections

from django_pgnudge.conf import conf
from django_pgnudge.decoding.base import EMIT_PREFIX
from django_pgnudge.decoding.nudges import objection
from django_pgnudge.errors import ConfigError


def emit(payload: str, using: str | None = None) -> None:
    """Send ``payload`` as an own nudge if and when the transaction commits.

    Outside a transaction it is sent at once. ``using`` is a database alias, by default
    ``PGNUDGE["DATABASE"]``. Raises ConfigError for a payload that no own nudge can have (it has a
    dot, as table names have, or more than 200 characters) and for a database that is not
    PostgreSQL.
    """
    if not isinstance(payload, str) or not payload or "\0" in payload:
        raise ConfigError(f"emit({payload!r}): a payload is a non-empty string without NUL.")
    if why_not := objection(payload):
        raise ConfigError(
            f"emit({payload!r}): {why_not}. Nudge a name of your own, like 'prices', and name it in"
            " the rules and nudged values that depend on it."
        )
    alias = conf.DATABASE if using is None else using
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise ConfigError(
            f"emit({payload!r}): the database {alias!r} is {connection.vendor}. emit() needs"
            ' PostgreSQL. Pass using=, or set PGNUDGE["DATABASE"].'
        )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_logical_emit_message("
            "true, %s::pg_catalog.text, %s::pg_catalog.text)",
            [EMIT_PREFIX, payload],
        )


async def aemit(payload: str, using: str | None = None) -> None:
    """``emit`` for async code.

    To send the nudge with a transaction, call ``emit`` inside the synchronous ``atomic`` block.
    """
    await sync_to_async(emit)(payload, using)
