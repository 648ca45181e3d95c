"""The primary keys as the catalogs have them: what the decoders and the registry both ask.

A key that was read holds for messages behind the end of the log at the time. Before it, a table may
have had another.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ..decoding import Decoder, KeyColumn, PrimaryKeys
from .connection import Rows
from .queries import OTHERWISE_IDENTIFIED

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
                           ELSE false END
       AND c.oid NOT IN ({OTHERWISE_IDENTIFIED}) AS identifies
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

_SHARE = 0.02
"""How much of the time the server may be asked whether keys have changed."""

_DIGEST = f"""
SELECT pg_catalog.md5(pg_catalog.string_agg(keys::pg_catalog.text, ',' ORDER BY relid, place))
FROM ({KEY_COLUMNS}) AS keys
"""  # noqa: S608


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


class KeyKeeper:
    """Keeps a decoder's keys those of the catalogs, though tables come and change."""

    def __init__(
        self, rows: Callable[..., Awaitable[Rows]], log_end: Callable[[], Awaitable[int]]
    ) -> None:
        """``rows`` asks about the catalogs, `log_end` for a position behind what is visible."""
        self._rows = rows
        self._log_end = log_end
        self._digest: str | None = None
        self._looked_at = 0
        self._look_again = 0.0
        self._read: tuple[PrimaryKeys, int] | None = None
        """What was read last, and where it begins to hold, until that is reached."""
        self._superseded = 0

    def supersede(self) -> None:
        """Others have read the keys: what is being read here, or waits to hold, is older."""
        self._superseded += 1
        self._read = self._digest = None

    async def refresh(self, decoder: Decoder[Any], position: int) -> None:
        """Look for tables that were made or changed; to be called now and then.

        ``position`` is the LSN up to which the decoder has taken everything. What has changed has
        no keys until the stream is there.
        """
        if self._read is not None:
            keys, begin = self._read
            if position >= begin:
                decoder.set_primary_keys(keys)
                self._read = None
            return
        moved = decoder.lsn != self._looked_at
        if not (decoder.unknown or (moved and not decoder.proves_keys)):
            return
        began, superseded = time.monotonic(), self._superseded
        if began < self._look_again:
            return
        self._looked_at = decoder.lsn
        ((digest,),) = await self._rows(_DIGEST, at_least=1)
        # Of thousands of tables it takes the server a while.
        self._look_again = began + (time.monotonic() - began) / _SHARE
        if digest == self._digest:
            return
        keys = primary_keys(await self._rows(PRIMARY_KEYS, columns=9))
        if superseded != self._superseded:
            return
        known = decoder.primary_keys
        same = {payload: key for payload, key in known.items() if keys.get(payload) == key}
        if len(same) < len(known):
            decoder.set_primary_keys(same)
        begin = await self._log_end()
        if superseded == self._superseded:
            self._read, self._digest = (keys, begin), digest
