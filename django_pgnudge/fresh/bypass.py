"""When a transaction forbids the cache: its view of the data is not that of others.

One that has written sees its own changes, which may yet be rolled back; one in REPEATABLE READ or
SERIALIZABLE sees a snapshot that may be older than the tokens. Both are asked of PostgreSQL, in one
statement and only inside a transaction; a connection in autocommit costs nothing.
"""

from __future__ import annotations

from typing import Final

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.db import connections, router

__all__ = ["in_cache_transaction", "may_use_cache"]

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


def in_cache_transaction(cache: BaseCache) -> bool:
    """Whether what is written to this cache waits for the caller's transaction.

    A token made in a table inside a transaction is one the daemon cannot see to delete, and it
    would appear, with the entry, after the change that should have ended both.
    """
    if not isinstance(cache, DatabaseCache):
        return False
    connection = connections[router.db_for_write(cache.cache_model_class)]
    return connection.in_atomic_block or (
        connection.connection is not None and not connection.autocommit
    )
