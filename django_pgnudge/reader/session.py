"""The state of one PostgreSQL session: from the driver, or from the server in one statement.

To ask the driver costs nothing. Every answer of the server tells it whether a transaction is open,
whoever opened it. Django knows only of those that it opened itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

# libpq's PGTransactionStatusType, as both drivers give it.
IDLE: Final = 0
INTRANS: Final = 2
INERROR: Final = 3
UNKNOWN: Final = 4

_WRITTEN: Final = "SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL"

VIEW: Final = (
    f"{_WRITTEN}, pg_catalog.current_setting('transaction_isolation'),"
    " pg_catalog.pg_is_in_recovery(), pg_catalog.current_schemas(false)::pg_catalog.text[],"
    " pg_catalog.pg_my_temp_schema()::pg_catalog.int8"
)
"""What a `SessionView` is made of, if the last is 0: then there are no temporary tables."""

OWN_LOCKS: Final = """pg_catalog.pg_lock_status() l
     WHERE l.locktype OPERATOR(pg_catalog.=) 'relation'
       AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"""
"""A session's own locks on relations, for a FROM. The view pg_locks would be among them."""

LOCKED: Final = f"ARRAY(SELECT l.relation::pg_catalog.int8 FROM {OWN_LOCKS})"  # noqa: S608 - all is ours
"""The OIDs of these relations."""

_SHADOWS: Final = """
SELECT c.relname::pg_catalog.text
  FROM pg_catalog.pg_class c
 WHERE c.relnamespace OPERATOR(pg_catalog.=) %s::pg_catalog.oid
   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,f}'::pg_catalog."char"[]) AND EXISTS (
       SELECT FROM pg_catalog.pg_class o
        WHERE o.relname OPERATOR(pg_catalog.=) c.relname
          AND o.relnamespace OPERATOR(pg_catalog.<>) c.relnamespace
          AND o.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog."char")
 ORDER BY 1
"""

_LATEST: Final = ("read committed", "read uncommitted")
"""Isolation levels in which each statement sees what is committed when it begins."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session sees.

    ``written``: its transaction has an xid. Any write gives it one, also in a savepoint that was
    rolled back. ``path`` is the effective search_path. ``shadows`` are temporary tables that hide a
    table of the same name.
    """

    written: bool
    isolation: str
    in_recovery: bool
    path: tuple[str, ...]
    shadows: tuple[str, ...] = ()

    def is_common(self) -> bool:
        """Whether a statement would see what is committed, and nothing else."""
        return not self.written and self.isolation in _LATEST and not self.shadows


def status(raw: Any) -> int:
    """Whether a driver's connection is in a transaction, without asking the server.

    UNKNOWN for a lost connection. UNKNOWN also in a pipeline of psycopg, where a statement without
    an answer yet may have opened one.
    """
    try:
        pgconn = raw.pgconn
    except AttributeError:  # psycopg2
        info = getattr(raw, "info", None)
        return UNKNOWN if info is None else int(info.transaction_status)
    return UNKNOWN if pgconn.pipeline_status else int(pgconn.transaction_status)


def reported_path(raw: Any) -> bytes | str | None:
    """The search_path that the server reports by itself: from PostgreSQL 18 on, else None."""
    path: bytes | str | None = None
    try:
        path = raw.pgconn.parameter_status(b"search_path")
    except AttributeError:  # psycopg2
        info = getattr(raw, "info", None)
        if info is not None:
            path = info.parameter_status("search_path")
    return path


def session_view(connection: BaseDatabaseWrapper) -> SessionView | None:
    """Ask the server what its session sees; None without an answer, as in a failed transaction."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(VIEW)
            written, isolation, in_recovery, path, temporary = cursor.fetchone()
            shadows: tuple[str, ...] = ()
            if temporary:
                cursor.execute(_SHADOWS, [temporary])
                shadows = tuple(name for (name,) in cursor.fetchall())
    except Exception:  # the function will say what is wrong with the connection
        return None
    return SessionView(written, isolation, in_recovery, tuple(path), shadows)


def has_written(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction has written; True if that cannot be asked."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN)
            return bool(cursor.fetchone()[0])
    except Exception:
        return True
