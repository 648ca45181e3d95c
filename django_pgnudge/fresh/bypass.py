"""When a transaction forbids the cache: its view of the data is not that of others.

One that has written sees its own changes, which may yet be rolled back; one in REPEATABLE READ or
SERIALIZABLE sees a snapshot that may be older than the tokens. Both are asked of PostgreSQL, in one
statement and only inside a transaction; a connection in autocommit costs nothing.
"""

from __future__ import annotations

from typing import Final

from django.db import connections

__all__ = ["may_use_cache"]

_SQL: Final = (
    "SELECT pg_current_xact_id_if_assigned() IS NULL"
    " AND current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')"
)


def may_use_cache(using: str) -> bool:
    """Whether this thread's connection sees what everybody sees."""
    connection = connections[using]
    if connection.connection is None or connection.vendor != "postgresql":
        return not connection.in_atomic_block
    if connection.autocommit and not connection.in_atomic_block:
        return True
    if connection.needs_rollback or connection.errors_occurred:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SQL)
            (answer,) = cursor.fetchone()
    except Exception:  # an aborted transaction: the function will say what is wrong with it
        return False
    return bool(answer)
