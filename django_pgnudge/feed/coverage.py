"""Whether every change of a table is in the stream: one definition, for each output plugin.

A query of a table reads its partitions and its INHERITS children too. So a table is covered if
everything in that tree which stores rows is *whole*: each INSERT, UPDATE, DELETE and TRUNCATE of
it, whatever table the statement names, comes through the stream under a name that is followed.

Source: ``get_rel_sync_entry`` and ``pgoutput_truncate``
(src/backend/replication/pgoutput/pgoutput.c) for what a publication sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

from .connection import Rows
from .queries import Visibility, literal
from .table_keys import has_identity

Found: TypeAlias = Mapping[str, frozenset[tuple[str, str]]]
"""For each payload that is covered, the tables its rows are in, with what makes them so."""

NEEDS_IDENTITY: Final = "wal2json"
"""The output plugin that leaves out changes it cannot name the row of."""

# Reads only catalogs: functions such as pg_partition_tree() and pg_get_publication_tables() lock
# the tables, and wait for a session that alters one. What cannot be covered is listed for its name.
_COVERAGE = """
WITH RECURSIVE relation AS (
    SELECT x.oid, n.oid AS schema, n.nspname, x.relname, x.relkind, x.relpersistence,
           {identified} AS identified
    FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
    WHERE x.relkind IN ('r', 'p', 'f', 'v', 'm')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
), tree (root, part) AS (
    SELECT oid, oid FROM relation
    UNION
    SELECT t.root, i.inhrelid
    FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.part
){sent}
SELECT root.nspname, root.relname, part.nspname, part.relname,
       CASE WHEN part.relpersistence = 'p' AND (
                part.relkind = 'p' OR part.relkind = 'r' AND part.identified AND {is_sent})
            THEN {origin} END
FROM tree t
JOIN relation root ON root.oid = t.root
JOIN relation part ON part.oid = t.part{join}
"""

# What a publication names includes partitions, however deep. One that sends them as their root
# (publish_via_partition_root) sends nothing for the TRUNCATE of a partition, and the key of another
# replica identity than the root's. One that leaves an operation or rows out covers nothing that one
# could rely on. ``origin`` is the versions of the rows which say that the table is published.
_SENT = """, publication AS (
    SELECT oid, xmin, puballtables, pubviaroot FROM pg_catalog.pg_publication
    WHERE pubname = {name} AND pubinsert AND pubupdate AND pubdelete AND pubtruncate
), named (oid, origin) AS (
    SELECT r.oid, p.xmin::pg_catalog.text FROM relation r, publication p WHERE p.puballtables
    UNION ALL
    SELECT m.prrelid, pg_catalog.concat_ws('/', p.xmin, m.oid, m.xmin)
    FROM publication p JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid{schemas}
), sent AS (
    SELECT t.part AS oid, pg_catalog.string_agg(n.origin, ' ' ORDER BY n.origin) AS origin
    FROM tree t
    JOIN relation r ON r.oid = t.root AND (r.relkind = 'p' OR t.root = t.part)
    JOIN named n ON n.oid = t.root{filtered}
    GROUP BY t.part
    HAVING NOT pg_catalog.bool_or((SELECT pubviaroot FROM publication) AND t.root <> t.part)
)"""

_SCHEMAS = """
    UNION ALL
    SELECT r.oid, pg_catalog.concat_ws('/', p.xmin, m.oid, m.xmin)
    FROM publication p
    JOIN pg_catalog.pg_publication_namespace m ON m.pnpubid = p.oid
    JOIN relation r ON r.schema = m.pnnspid"""

_FILTERED = """
    WHERE NOT EXISTS (
        SELECT 1 FROM publication p JOIN pg_catalog.pg_publication_rel f ON f.prpubid = p.oid
        WHERE f.prrelid = t.part AND f.prqual IS NOT NULL)"""


def _coverage_query(publication: str | None, server_version: int, *, needs_identity: bool) -> str:
    """A query for what `covered` reads.

    ``needs_identity`` is for an output plugin that leaves out an UPDATE or a DELETE of a table
    without a replica identity.
    """
    parts = {
        "identified": has_identity("x") if needs_identity else "true",
        "sent": "", "is_sent": "true", "origin": "''", "join": "",
    }  # fmt: skip
    if publication is not None:
        has_schemas = server_version >= 150000
        parts |= {
            "sent": _SENT.format(
                name=literal(publication),
                schemas=_SCHEMAS if has_schemas else "",
                filtered=_FILTERED if has_schemas else "",
            ),
            "is_sent": "sent.oid IS NOT NULL",
            "origin": "COALESCE(sent.origin, '')",
            "join": " LEFT JOIN sent ON sent.oid = t.part",
        }
    return _COVERAGE.format(**parts)


def covered(rows: Iterable[tuple[str | None, ...]], wanted: Callable[[str, str], bool]) -> Found:
    """Read the rows of the coverage query; ``wanted`` says which (schema, table) are followed.

    Two tables may have one payload, ``"a.b".c`` and ``a."b.c"``: it is covered if both are.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    lacking: set[str] = set()
    for row in rows:
        schema, table, part_schema, part, _ = (value or "" for value in row)
        payload, origin = f"{schema}.{table}", row[4]
        if origin is None or not (wanted(schema, table) and wanted(part_schema, part)):
            lacking.add(payload)
        else:
            found.setdefault(payload, set()).add((f"{part_schema}.{part}", origin))
    return {payload: frozenset(parts) for payload, parts in found.items() if payload not in lacking}


class CoverageReader:
    """Reads what is covered on one server, for one feed's tables."""

    def __init__(
        self,
        publication: str | None,
        server_version: int,
        followed: Callable[[str, str], bool],
        codec: str,
    ) -> None:
        """``followed`` says which tables (schema, table) are followed; ``codec`` is Python's name
        of the encoding in which the server sends them."""
        self._publication = publication
        self._server_version = server_version
        self._followed = followed
        self._codec = codec

    async def read(self, rows: Callable[..., Awaitable[Rows]], plugin: str) -> Found:
        """Ask with ``rows``, which is `Connection.rows` or has its shape."""
        sql = _coverage_query(
            self._publication if plugin == "pgoutput" else None,
            self._server_version,
            needs_identity=plugin == NEEDS_IDENTITY,
        )
        return covered(await rows(sql, columns=5), self._is_sent_by_name)

    def _is_sent_by_name(self, schema: str, table: str) -> bool:
        """Whether changes of a table come, under the name that it has."""
        if not self._followed(schema, table):
            return False
        # Without a codec, names come with what is not ASCII escaped.
        return self._codec != "ascii" or f"{schema}{table}".isascii()


class Carried:
    """Which payloads can be relied on while the map changes.

    A transaction that runs while a table is added to a publication, or a schema is renamed, may
    have changed the table before. That change never comes, or comes under the old name, and is
    visible only after its COMMIT. So what was not covered before, or by other tables, does not
    count until every transaction has ended that ran when it was found.
    """

    def __init__(self, found: Found) -> None:
        """``found`` was read before the slot was made, which waits for all that ran then."""
        self._found = found
        self._waiting: dict[str, frozenset[int] | None] = {}

    def moved(self, found: Found) -> bool:
        """Whether something was not found like this before: `take` needs what runs."""
        return any(self._found.get(payload) != parts for payload, parts in found.items())

    @property
    def waits(self) -> bool:
        """Whether `take` needs what a later snapshot sees."""
        return bool(self._waiting)

    def take(
        self, found: Found, running: frozenset[int], seen: Visibility | None
    ) -> frozenset[str]:
        """The payloads to rely on, now that ``found`` has been read.

        ``running`` are the 32-bit xids of the transactions in progress since, if something moved;
        ``seen`` is what a later snapshot sees, if something moved or waits. A standby does not tell
        what runs, so there the next stream is the first to rely on what moved.
        """
        before, self._found = self._found, found
        since = None if seen is not None and seen.replayed is not None else running
        waiting = {
            payload: xids
            for payload, xids in self._waiting.items()
            if payload in found and not _ended(xids, seen)
        }
        for payload, parts in found.items():
            if payload not in before:
                if not _ended(since, seen):
                    waiting[payload] = since
            elif before[payload] != parts:
                # It may have been out meanwhile, so it must be missing once.
                waiting[payload] = since
        self._waiting = waiting
        return frozenset(found.keys() - waiting.keys())


def _ended(xids: frozenset[int] | None, seen: Visibility | None) -> bool:
    return xids is not None and seen is not None and all(map(seen.snapshot.sees, xids))
