"""How PostgreSQL's catalogs tell primary keys and replica identities: SQL that queries are made of.

Every name is qualified, so that no search_path puts another object in its place. Nothing in this
SQL comes from outside.

Source: ``RelationGetIndexList`` (src/backend/utils/cache/relcache.c) for what is a replica
identity.
"""

# ruff: noqa: S608 -- nothing comes from outside

from __future__ import annotations


def can_identify(index: str) -> str:
    """Whether a row of ``pg_index`` can be a replica identity: it is valid, not being dropped and
    not DEFERRABLE."""
    return f"({index}.indimmediate AND {index}.indisvalid AND {index}.indislive)"


def identifies(index: str, table: str) -> str:
    """Whether a row of ``pg_index`` is the replica identity of its row of ``pg_class``."""
    return (
        f"({can_identify(index)} AND ({table}.relreplident = 'd' AND {index}.indisprimary"
        f" OR {table}.relreplident = 'i' AND {index}.indisreplident))"
    )


def has_identity(table: str) -> str:
    """Whether a row of ``pg_class`` has a replica identity."""
    return f"""({table}.relreplident = 'f' OR EXISTS (
    SELECT 1 FROM pg_catalog.pg_index i
    WHERE i.indrelid = {table}.oid AND {identifies("i", table)}))"""


# What an index INCLUDEs is no key.
KEY_COLUMNS_OF_INDEX = """pg_catalog.pg_index i
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
    WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute a
    ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.place <= i.indnkeyatts"""
"""What follows FROM: ``i`` is an index, ``k.place`` and ``a`` each of its key columns."""

# A publication may send a partition's rows as its root's (publish_via_partition_root), with the old
# values of the partition's replica identity and none of the root's key.
_ROOTS_WITH_OTHER_IDENTITY = f"""
WITH RECURSIVE tree (root, part) AS (
    SELECT oid, oid FROM pg_catalog.pg_class WHERE relkind = 'p'
    UNION ALL
    SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.part
)
SELECT t.root FROM tree t JOIN pg_catalog.pg_class x ON x.oid = t.part
WHERE x.relreplident = 'n' OR x.relreplident = 'i' AND NOT EXISTS (
    SELECT 1 FROM pg_catalog.pg_index i
    WHERE i.indrelid = x.oid AND i.indisprimary AND {identifies("i", "x")})
"""

# Two tables may have one payload, as "a.b".c and a."b.c" have. A key does not tell whose row it is.
_HAS_OWN_PAYLOAD = """
    NOT ((pg_catalog.strpos(n.nspname, '.') > 0 OR pg_catalog.strpos(c.relname, '.') > 0)
         AND EXISTS (
             SELECT 1 FROM pg_catalog.pg_class x
             JOIN pg_catalog.pg_namespace m ON m.oid = x.relnamespace
             WHERE x.oid <> c.oid AND x.relkind IN ('r', 'p', 'f')
               AND m.nspname::pg_catalog.text || '.' || x.relname
                   = n.nspname::pg_catalog.text || '.' || c.relname))
"""

# A key that is not the replica identity, or part of it, can change without its old value being
# sent.
PRIMARY_KEY_COLUMNS = f"""
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
       (c.relreplident = 'f' OR {identifies("i", "c")})
       AND c.oid NOT IN ({_ROOTS_WITH_OTHER_IDENTITY}) AS identifies
FROM {KEY_COLUMNS_OF_INDEX}
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN domain d ON d.own = a.atttypid
     AND d.type NOT IN (SELECT oid FROM pg_catalog.pg_type WHERE typtype = 'd')
JOIN pg_catalog.pg_type t ON t.oid = COALESCE(d.type, a.atttypid)
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE i.indisprimary
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND {_HAS_OWN_PAYLOAD}
"""
"""A row a column of each primary key. ``key_column`` is for `primary_keys.key_column`;
``identifies`` says whether the old value of the key is always sent."""

TABLES_WITHOUT_IDENTITY = f"""
SELECT n.nspname, x.relname
FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
WHERE x.relkind = 'r' AND x.relpersistence = 'p' AND NOT {has_identity("x")}
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, x.relname
"""
