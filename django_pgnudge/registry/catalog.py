"""Reads PostgreSQL's catalogs for the registry into one immutable value."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_pgnudge.feed.primary_keys import key_column
from django_pgnudge.feed.session_settings import in_transaction
from django_pgnudge.feed.table_keys import PRIMARY_KEY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from django_pgnudge.decoding import KeyColumn

# pg_inherits also links the indexes of partitions. relkind selects tables, partitioned tables and
# foreign tables.
_RELATIONS = f"""
WITH RECURSIVE keys AS ({PRIMARY_KEY_COLUMNS}),
key (relid, columns) AS (
    SELECT relid, pg_catalog.array_agg(key_column ORDER BY place) FROM keys GROUP BY relid
),
up (oid, parent, depth) AS (
    SELECT i.inhrelid, i.inhparent, 1
      FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE c.relkind IN ('r', 'p', 'f')
    UNION ALL
    SELECT up.oid, i.inhparent, up.depth + 1
      FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.parent
)
SELECT 'table', n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind = 'p', 0,
       key.columns
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN key ON key.relid = c.oid
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'parent', n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relispartition, up.depth,
       ARRAY[pn.nspname::pg_catalog.text, p.relname::pg_catalog.text]
  FROM up
  JOIN pg_catalog.pg_class c ON c.oid = up.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = up.parent
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 ORDER BY 5
"""  # noqa: S608  # nothing in it comes from outside

# Like to_regclass: any relation with the name in the first schema of the path that has one.
_ON_PATH = """
SELECT DISTINCT ON (c.relname) c.relname::pg_catalog.text, n.nspname::pg_catalog.text
  FROM pg_catalog.unnest(%s::pg_catalog.text[]) WITH ORDINALITY AS path (schema, place)
  JOIN pg_catalog.pg_namespace n ON n.nspname = path.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
 WHERE c.relname = ANY (%s::pg_catalog.text[])
 ORDER BY c.relname, path.place
"""

# A physical standby has the same system identifier and keeps it when it is promoted. initdb and
# pg_upgrade create another. The OID stays when a database is renamed; another database of the same
# name has another OID.
_IDENTITY = """
SELECT s.system_identifier::pg_catalog.text || '-' || d.oid::pg_catalog.text
  FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
"""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE"

_MAY_ASK_IDENTITY = """
SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
"""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The contents of the catalogs at one time; payloads are ``schema.table``.

    ``path`` is the effective search_path that was used to find ``schemas``.
    """

    path: tuple[str, ...] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    partitioned: frozenset[str] = frozenset()
    primary_keys: Mapping[str, tuple[KeyColumn, ...]] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    identity: str | None = None
    read_at: float = field(default_factory=time.monotonic)

    def pk_columns(self, payload: str) -> tuple[str, ...] | None:
        """The names of a table's ``primary_keys``; None if they are unknown."""
        columns = self.primary_keys.get(payload)
        return None if columns is None else tuple(column.name for column in columns)

    def age(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self.read_at


def payload_for(schema: str, table: str) -> str:
    """The feed's name of a table, without quotes."""
    return f"{schema}.{table}"


def quote_identifier(name: str) -> str:
    """A name as an SQL identifier.

    Django's ``quote_name`` does not double quotes, and takes a name with outer quotes as quoted.
    """
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def pinned(
    connection: BaseDatabaseWrapper, schemas: tuple[str, ...] | None = None
) -> Iterator[tuple[CursorWrapper, tuple[str, ...]]]:
    """A cursor that resolves names and operators in pg_catalog only, and the former search_path.

    With ``schemas`` the second is the effective path of these schemas instead. Afterwards the
    session has its former settings: it may belong to a pool, or be in the caller's transaction.
    """
    nested = connection.in_atomic_block or not connection.get_autocommit()
    # A single cursor: tenants' backends set search_path for each new one.
    with connection.cursor() as cursor:
        # _BEGIN sets the isolation level: the session's default may be one that waits for others.
        cursor.execute("SAVEPOINT pgnudge" if nested else _BEGIN)
        try:
            if schemas is not None:
                path = ", ".join(map(quote_identifier, schemas))
                cursor.execute("SELECT pg_catalog.set_config('search_path', %s, true)", [path])
            cursor.execute("SELECT pg_catalog.current_schemas(false)::pg_catalog.text[]")
            ((found,),) = cursor.fetchall()
            cursor.execute(in_transaction(server_version(connection)))
            yield cursor, tuple(found)
        finally:
            if not nested:
                cursor.execute("ROLLBACK")
            else:
                cursor.execute("ROLLBACK TO SAVEPOINT pgnudge")
                cursor.execute("RELEASE SAVEPOINT pgnudge")


def read_catalog(connection: BaseDatabaseWrapper, unqualified: list[str]) -> Catalog:
    """Read where search_path finds the ``unqualified`` tables, and the structure of all tables."""
    with pinned(connection) as (cursor, path):
        schemas = _found(cursor, unqualified, path)
        cursor.execute(_RELATIONS)
        rows: list[tuple[str, str, str, bool, int, Any]] = cursor.fetchall()
        identity = read_identity(cursor)
    tables: dict[str, tuple[str, str]] = {}
    partitioned: set[str] = set()
    primary_keys: dict[str, tuple[KeyColumn, ...]] = {}
    parents: dict[str, tuple[str, ...]] = {}
    roots: dict[str, str] = {}
    for kind, schema, table, flag, _, names in rows:
        payload = payload_for(schema, table)
        if kind == "table":
            tables[payload] = schema, table
            if names:
                primary_keys[payload] = tuple(map(key_column, names))
            if flag:
                partitioned.add(payload)
        else:
            parent = payload_for(*names)
            if parent not in parents.get(payload, ()):
                parents[payload] = (*parents.get(payload, ()), parent)
            if flag:
                roots[payload] = parent  # rows are ordered by depth, so the last one is the root
    return Catalog(
        path, schemas, tables, frozenset(partitioned), primary_keys, parents, roots, identity
    )


def read_identity(cursor: CursorWrapper) -> str | None:
    """The identity of a cursor's database.

    None if EXECUTE on ``pg_control_system`` was revoked from the role.
    """
    for question in (_MAY_ASK_IDENTITY, _IDENTITY):
        cursor.execute(question)
        ((answer,),) = cursor.fetchall()
        if not answer:
            return None
    return str(answer)


def find_on_path(
    connection: BaseDatabaseWrapper, unqualified: list[str], schemas: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The effective search_path of these ``schemas``, and where it finds the tables."""
    with pinned(connection, schemas) as (cursor, path):
        return path, _found(cursor, unqualified, path)


def _found(cursor: Any, unqualified: list[str], path: tuple[str, ...]) -> dict[str, str]:
    """The schema of each table that an effective search_path finds."""
    cursor.execute(_ON_PATH, [list(path), unqualified])
    return dict(cursor.fetchall())


def server_version(connection: BaseDatabaseWrapper) -> int:
    """The version of a PostgreSQL connection's server, in the form of ``server_version_num``.

    Django's ``pg_version`` keeps the version of the first server that the alias connected to.
    """
    with connection.temporary_connection():
        return int(connection.connection.info.server_version)
