"""The primary keys as the catalogs have them: what the decoders and the registry both ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..decoding import KeyColumn, PrimaryKeys

__all__ = ["KEY_COLUMNS", "PRIMARY_KEYS", "key_column", "primary_keys"]

# Two tables may have one payload, as "a.b".c and a."b.c" have: whose row it is, no key can tell.
_ALONE = """
    NOT ((pg_catalog.strpos(n.nspname, '.') > 0 OR pg_catalog.strpos(c.relname, '.') > 0)
         AND EXISTS (
             SELECT 1 FROM pg_catalog.pg_class x
             JOIN pg_catalog.pg_namespace m ON m.oid = x.relnamespace
             WHERE x.oid <> c.oid AND x.relkind IN ('r', 'p', 'f')
               AND m.nspname::pg_catalog.text || '.' || x.relname
                   = n.nspname::pg_catalog.text || '.' || c.relname))
"""

# A key that is not (part of) the replica identity can change without its old value being sent. A
# DEFERRABLE one is no identity by itself. What an index INCLUDEs is no key.
KEY_COLUMNS = f"""
WITH RECURSIVE domain (own, type, typmod) AS (
    SELECT oid, typbasetype, typtypmod FROM pg_catalog.pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT d.own, t.typbasetype, t.typtypmod
    FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.type AND t.typtype = 'd'
)
SELECT c.oid AS relid, n.nspname, c.relname, k.place,
       ARRAY[a.attname::pg_catalog.text,
             CASE t.typnamespace WHEN 'pg_catalog'::pg_catalog.regnamespace
                  THEN t.typname ELSE '' END::pg_catalog.text,
             COALESCE(d.typmod, a.atttypmod)::pg_catalog.text,
             COALESCE(l.collisdeterministic, true)::pg_catalog.text,
             pg_catalog.format_type(a.atttypid, NULL),
             a.atttypid::pg_catalog.text,
             a.atttypmod::pg_catalog.text] AS key_column,
       CASE c.relreplident WHEN 'f' THEN true
                           WHEN 'd' THEN i.indimmediate AND i.indisvalid
                           WHEN 'i' THEN i.indisreplident
                           ELSE false END AS identifies
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
    WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
LEFT JOIN domain d ON d.own = a.atttypid
     AND d.type NOT IN (SELECT oid FROM pg_catalog.pg_type WHERE typtype = 'd')
JOIN pg_catalog.pg_type t ON t.oid = COALESCE(d.type, a.atttypid)
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE i.indisprimary AND k.place <= i.indnkeyatts
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND {_ALONE}
"""  # noqa: S608  # nothing in it comes from outside
"""A row a column of each primary key; ``key_column`` is for `key_column`."""

PRIMARY_KEYS = f"""
SELECT nspname, relname, key_column[1], key_column[2], key_column[3], key_column[4],
       key_column[5], key_column[6], key_column[7]
FROM ({KEY_COLUMNS}) AS keys
WHERE identifies
ORDER BY nspname, relname, place
"""  # noqa: S608
"""Nine columns, of the keys of which the old value is always sent."""


def key_column(parts: Sequence[str]) -> KeyColumn:
    """Read a ``key_column`` of `KEY_COLUMNS`."""
    name, type_name, typmod, deterministic, printed, own_type, own_typmod = parts
    return KeyColumn(
        name,
        type_name,
        int(typmod),
        deterministic == "true",
        printed,
        int(own_type),
        int(own_typmod),
    )


def primary_keys(rows: Iterable[tuple[str | None, ...]]) -> PrimaryKeys:
    """Read the answer to `PRIMARY_KEYS`."""
    found: dict[str, list[KeyColumn]] = {}
    for row in rows:
        schema, table, *parts = (value or "" for value in row)
        found.setdefault(f"{schema}.{table}", []).append(key_column(parts))
    return found
