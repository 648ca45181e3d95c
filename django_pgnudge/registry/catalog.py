"""What the registry asks PostgreSQL's catalogs, and the answer as one unchanging value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Catalog",
    "find_on_path",
    "payload_for",
    "quote_identifier",
    "read_catalog",
    "server_version",
]

# pg_inherits also links the indexes of partitions, hence relkind: tables, partitioned tables,
# foreign tables.
_RELATIONS = """
WITH RECURSIVE up (oid, parent, depth) AS (
    SELECT i.inhrelid, i.inhparent, 1
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p', 'f')
    UNION ALL
    SELECT up.oid, i.inhparent, up.depth + 1 FROM up JOIN pg_inherits i ON i.inhrelid = up.parent
)
SELECT 'table', n.nspname::text, c.relname::text, c.relkind = 'p', 0,
       (SELECT array_agg(a.attname::text ORDER BY k.at)
          FROM pg_index x
          CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, at)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
         WHERE x.indrelid = c.oid AND x.indisprimary AND k.at <= x.indnkeyatts)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'parent', n.nspname::text, c.relname::text, c.relispartition, up.depth,
       ARRAY[pn.nspname::text, p.relname::text]
  FROM up
  JOIN pg_class c ON c.oid = up.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class p ON p.oid = up.parent JOIN pg_namespace pn ON pn.oid = p.relnamespace
 ORDER BY 5
"""

_SEARCH_PATH = """
SELECT p.path, found.name, found.schema
  FROM (SELECT current_schemas(false)::text[]) AS p (path)
  LEFT JOIN (
    SELECT t.name, n.nspname::text
      FROM unnest(%s::text[]) AS t (name)
      JOIN pg_class c ON c.oid = to_regclass(quote_ident(t.name))
      JOIN pg_namespace n ON n.oid = c.relnamespace
  ) AS found (name, schema) ON true
"""


@dataclass(frozen=True, slots=True)
class Catalog:
    """One reading of the catalogs; payloads are ``schema.table``.

    ``path`` is the effective search_path by which ``schemas`` were found.
    """

    path: tuple[str, ...] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    partitioned: frozenset[str] = frozenset()
    primary_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    read_at: float = field(default_factory=time.monotonic)

    def age(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self.read_at


def payload_for(schema: str, table: str) -> str:
    """The feed's name of a table: plain and unquoted."""
    return f"{schema}.{table}"


def quote_identifier(name: str) -> str:
    """A name as an SQL identifier.

    Django's ``quote_name`` doubles no quotes and trusts those it finds.
    """
    return '"' + name.replace('"', '""') + '"'


def read_catalog(connection: BaseDatabaseWrapper, unqualified: list[str]) -> Catalog:
    """Ask where search_path finds the ``unqualified`` tables, and what all tables look like."""
    with connection.cursor() as cursor:
        path, schemas = _found(cursor, unqualified)
        cursor.execute(_RELATIONS)
        rows: list[tuple[str, str, str, bool, int, Any]] = cursor.fetchall()
    tables: dict[str, tuple[str, str]] = {}
    partitioned: set[str] = set()
    primary_keys: dict[str, tuple[str, ...]] = {}
    parents: dict[str, tuple[str, ...]] = {}
    roots: dict[str, str] = {}
    for kind, schema, table, flag, _, names in rows:
        payload = payload_for(schema, table)
        if kind == "table":
            tables[payload] = schema, table
            if names:
                primary_keys[payload] = tuple(names)
            if flag:
                partitioned.add(payload)
        else:
            parent = payload_for(*names)
            if parent not in parents.get(payload, ()):
                parents[payload] = (*parents.get(payload, ()), parent)
            if flag:
                roots[payload] = parent  # rows come by depth: the last one is the root
    return Catalog(path, schemas, tables, frozenset(partitioned), primary_keys, parents, roots)


def find_on_path(
    connection: BaseDatabaseWrapper, unqualified: list[str], schemas: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Where a search_path of these ``schemas`` finds tables, and what is effective of it.

    The connection has its own search_path again afterwards: it may be a pool's.
    """
    with connection.cursor() as cursor:
        # One cursor for all: tenants' backends set search_path for each.
        cursor.execute("BEGIN")
        cursor.execute(
            "SELECT pg_catalog.set_config('search_path', %s, true)",
            [", ".join(map(quote_identifier, schemas))],
        )
        found = _found(cursor, unqualified)
        cursor.execute("ROLLBACK")
    return found


def _found(cursor: Any, unqualified: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The effective search_path, and the schemas in which it finds tables."""
    cursor.execute(_SEARCH_PATH, [unqualified])
    rows: list[tuple[list[str], str | None, str]] = cursor.fetchall()
    return tuple(rows[0][0]), {name: schema for _, name, schema in rows if name is not None}


def server_version(connection: BaseDatabaseWrapper) -> int:
    """The version of a PostgreSQL connection's server, as ``server_version_num`` has it."""
    return int(connection.pg_version)  # type: ignore[attr-defined]
