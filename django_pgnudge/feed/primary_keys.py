"""The primary keys as the catalogs have them, for the decoders and the registry.

A key that was read holds for messages behind the end of the log at the time. Before it, a table may
have had another.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ..decoding import Decoder, KeyColumn, PrimaryKeys
from .connection import Rows
from .table_keys import PRIMARY_KEY_COLUMNS

PRIMARY_KEYS = f"""
SELECT nspname, relname, key_column[1], key_column[2], key_column[3], key_column[4],
       key_column[5], key_column[6], key_column[7]
FROM ({PRIMARY_KEY_COLUMNS}) AS keys
WHERE identifies
ORDER BY nspname, relname, place
"""  # noqa: S608 -- nothing in it comes from outside
"""Nine columns, of the keys of which the old value is always sent."""

_SHARE = 0.02
"""The share of time in which the server may be queried for changed keys."""

_DIGEST = f"""
SELECT pg_catalog.md5(pg_catalog.string_agg(keys::pg_catalog.text, ',' ORDER BY relid, place))
FROM ({PRIMARY_KEY_COLUMNS}) AS keys
"""  # noqa: S608


def key_column(parts: Sequence[str]) -> KeyColumn:
    """Read a ``key_column`` of `PRIMARY_KEY_COLUMNS`."""
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
    """Read the rows of `PRIMARY_KEYS`."""
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
        """``rows`` queries the catalogs, ``log_end`` a position behind what is visible."""
        self._rows = rows
        self._log_end = log_end
        self._digest: str | None = None
        self._looked_at = 0
        self._look_again = 0.0
        self._read: tuple[PrimaryKeys, int] | None = None
        """What was read last, and where it begins to hold, until that is reached."""
        self._superseded = 0

    def supersede(self) -> None:
        """Others have read the keys. What is being read here, or waits to hold, is older."""
        self._superseded += 1
        self._read = self._digest = None

    async def refresh(self, decoder: Decoder[Any], position: int) -> None:
        """Look for tables that were made or changed; to be called now and then.

        ``position`` is the LSN up to which the decoder has taken everything. A changed table has
        no keys until the stream has come to where they hold.
        """
        if self._read is not None:
            keys, begin = self._read
            if position >= begin:
                decoder.set_primary_keys(keys)
                self._read = None
            return
        moved = decoder.lsn != self._looked_at
        if not (decoder.stale_keys or (moved and not decoder.proves_keys)):
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
        before = decoder.primary_keys
        same = {payload: key for payload, key in before.items() if keys.get(payload) == key}
        if len(same) < len(before):
            decoder.set_primary_keys(same)
        begin = await self._log_end()
        if superseded == self._superseded:
            self._read, self._digest = (keys, begin), digest
