"""Whether the map has moved: the catalog rows that names, coverage and keys rest on.

A sample of what they say proves nothing: a table can leave a publication, change, and come back
between two looks. So this looks at row *versions*. Every catalog row has a place (``ctid``) and
the transaction that wrote it (``xmin``), and a change leaves another version at another
place, also if it then says what it said before. What changes a row in place (VACUUM, ANALYZE,
CREATE INDEX noting itself in ``pg_class``) changes nothing that is looked for here, and freezing
keeps ``xmin`` as it was (since PostgreSQL 9.4). A VACUUM FULL of a catalog moves every row: a
false alarm, and harmless.

The catalogs are looked at in three parts, by what follows if one has moved:

- for each table its own rows, its columns, the indexes that are its primary key or identity, its
  parents, its schema, and its place in the publication. Which tables moved is known exactly. A
  TRUNCATE, a rewrite and a GRANT move the table's own row too, and only that table's. After the
  first two, what has moved says that the table has other storage and is otherwise as it was;
- what the publication says of all its tables;
- what a query means beyond tables: views, materialized views, rules, functions, policies, labels
  of enums, settings of roles and databases (a search_path). It is unknown which values depended
  on it.

Temporary objects are left out. *Measured* as CPU time of PostgreSQL 15: 3 ms for 200 tables of ten
columns, 29 ms for 5,000, two thirds of it for the columns. That is as long as the coverage query,
which is sent only when this has moved. It takes no lock but AccessShare on the catalogs, for its
own duration.
"""

# ruff: noqa: S608 -- the only name from outside, the publication's, is a literal

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ProtocolError
from .connection import Rows
from .queries import FIRST_USER_OID, literal

_TABLE = f"c.oid >= {FIRST_USER_OID} AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'"

_PUBLICATION, _READING = "publication", "reading"


def _version(alias: str, kind: int) -> str:
    # The kind keeps apart rows that stand at the same place of two catalogs.
    return (
        f"pg_catalog.hashtidextended({alias}.ctid, "
        f"{alias}.xmin::pg_catalog.text::pg_catalog.int8 + {kind << 32})"
    )


def _parts(publication: str | None, server_version: int) -> str:
    """The three parts as a WITH list; each row adds its version to the sum of its part."""
    tables = [
        f"""SELECT c.oid AS relation, {_version("c", 1)} AS version, true AS own
            FROM pg_catalog.pg_class c WHERE {_TABLE}""",
        f"""SELECT c.oid, {_version("n", 2)}, false FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_TABLE}""",
        f"""SELECT c.oid, {_version("a", 3)}, false FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            WHERE a.attnum > 0 AND {_TABLE}""",
        f"""SELECT c.oid, {_version("i", 4)}, false FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
            WHERE (i.indisprimary OR i.indisreplident) AND {_TABLE}""",
        f"""SELECT c.oid, {_version("i", 5)}, false FROM pg_catalog.pg_inherits i
            JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE {_TABLE}""",
    ]
    published = []
    if publication is not None:
        ours = f"p.pubname = {literal(publication)}"
        tables.append(f"""SELECT c.oid, {_version("r", 6)}, false FROM pg_catalog.pg_publication p
            JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
            JOIN pg_catalog.pg_class c ON c.oid = r.prrelid WHERE {ours} AND {_TABLE}""")
        published.append(
            f"SELECT {_version('p', 7)} AS version FROM pg_catalog.pg_publication p WHERE {ours}"
        )
        if server_version >= 150000:
            published.append(f"""SELECT {_version("s", 8)} FROM pg_catalog.pg_publication p
                JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid WHERE {ours}""")
    reading = [
        f"""SELECT {_version("c", 9)} # {_version("n", 10)} AS version FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid >= {FIRST_USER_OID} AND c.relkind = 'v' AND c.relpersistence <> 't'""",
        f"""SELECT {_version("w", 11)} FROM pg_catalog.pg_rewrite w
            JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
            WHERE c.oid >= {FIRST_USER_OID} AND c.relpersistence <> 't'""",
        f"""SELECT {_version("f", 12)} FROM pg_catalog.pg_proc f
            JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
            WHERE f.oid >= {FIRST_USER_OID} AND NOT pg_catalog.starts_with(n.nspname, 'pg_temp')
        """,
        # REFRESH gives a materialized view's own row another version, and its type's not.
        f"""SELECT {_version("t", 16)} FROM pg_catalog.pg_type t
            JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
            WHERE c.oid >= {FIRST_USER_OID} AND c.relkind = 'm'""",
        f"SELECT {_version('y', 13)} FROM pg_catalog.pg_policy y",
        f"SELECT {_version('e', 14)} FROM pg_catalog.pg_enum e",
        f"""SELECT {_version("s", 15)} FROM pg_catalog.pg_db_role_setting s
            WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                        WHERE datname = pg_catalog.current_database()))""",
    ]
    empty = "SELECT 0::pg_catalog.int8 AS version"
    return f"""WITH tables AS ({" UNION ALL ".join(tables)}),
        published AS ({" UNION ALL ".join(published) or empty}),
        reading AS ({" UNION ALL ".join(reading)})"""


_SUM = "COALESCE(pg_catalog.sum(version), 0)::pg_catalog.text"


def _summary(publication: str | None, server_version: int) -> str:
    return f"""{_parts(publication, server_version)}
        SELECT (SELECT {_SUM} FROM tables), (SELECT {_SUM} FROM published),
               (SELECT {_SUM} FROM reading)"""


def _details(publication: str | None, server_version: int) -> str:
    return f"""{_parts(publication, server_version)}
        SELECT t.relation::pg_catalog.text, n.nspname, c.relname, t.version, t.rest,
               pg_catalog.concat_ws(' ', c.relkind, c.relpersistence, c.relreplident,
                                    c.relispartition, c.relowner, c.relacl::pg_catalog.text),
               c.relfilenode::pg_catalog.text,
               pg_catalog.concat_ws(' ', n.ctid::pg_catalog.text, n.xmin::pg_catalog.text)
        FROM (SELECT relation, {_SUM} AS version,
                     COALESCE(pg_catalog.sum(version) FILTER (WHERE NOT own), 0)::pg_catalog.text
                     AS rest
              FROM tables GROUP BY relation) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        UNION ALL SELECT '{_PUBLICATION}', NULL, NULL, (SELECT {_SUM} FROM published),
                         '', '', '', ''
        UNION ALL SELECT '{_READING}', NULL, NULL, (SELECT {_SUM} FROM reading),
                         '', '', '', ''
    """


class TableVersions(NamedTuple):
    """One table's rows: the sum of all their versions, of all but its own row's, of that what it
    says and the file it names, and the version of its schema's."""

    payload: str
    version: int
    name: str = ""
    rest: str = ""
    says: str = ""
    file: str = ""
    schema: str = ""

    def is_only_stored_anew(self, before: TableVersions) -> bool:
        """Whether a TRUNCATE or a rewrite is all that has happened to it, as far as can be told."""
        return (
            self.file != before.file
            and self._replace(version=before.version, file=before.file) == before
        )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The versions at one moment, as sums of hashes; a table's by its oid."""

    tables: Mapping[str, TableVersions]
    published: int = 0
    reading: int = 0

    def digest(self) -> tuple[int, int, int]:
        """What the server's own sums are compared with."""
        tables = sum(table.version for table in self.tables.values())
        return tables, self.published, self.reading


@dataclass(frozen=True, slots=True)
class Moved:
    """What has moved since a fingerprint; false if nothing has.

    ``payloads`` are the names, before and after, of the tables that moved, came or went; ``stored``
    those of them that came by a name that no table had, or have other storage and are otherwise as
    they were.
    """

    payloads: frozenset[str] = frozenset()
    stored: frozenset[str] = frozenset()
    publication: bool = False
    reading: bool = False

    def __bool__(self) -> bool:
        return bool(self.payloads) or self.publication or self.reading


async def sums(
    rows: Callable[..., Awaitable[Rows]], publication: str | None, server_version: int
) -> tuple[int, int, int]:
    """The server's own sums. ``rows`` is `Connection.rows` or has its shape."""
    asked = _summary(publication, server_version)
    ((tables, published, reading), *_) = await rows(asked, columns=3, at_least=1)
    return _number(tables), _number(published), _number(reading)


async def take(
    rows: Callable[..., Awaitable[Rows]], publication: str | None, server_version: int
) -> Fingerprint:
    """All of it, in one statement."""
    tables: dict[str, TableVersions] = {}
    parts = dict.fromkeys((_PUBLICATION, _READING), 0)
    for row in await rows(_details(publication, server_version), columns=8):
        oid, schema, table, text, rest, says, file, place = (value or "" for value in row)
        version = _number(text)
        if oid in parts:
            parts[oid] = version
        else:
            payload = f"{schema}.{table}"
            tables[oid] = TableVersions(payload, version, table, rest, says, file, place)
    return Fingerprint(tables, parts[_PUBLICATION], parts[_READING])


def schemas_moved(before: Fingerprint, after: Fingerprint) -> bool:
    """Whether the schema of a table that was there has been renamed, or at least written."""
    return any(
        oid in after.tables and after.tables[oid].schema != table.schema
        for oid, table in before.tables.items()
    )


def moved_between(before: Fingerprint, after: Fingerprint) -> Moved:
    """What has moved from one to the other."""
    old, new = before.tables, after.tables
    moved: set[str] = set()
    changed: set[str] = set()
    old_names = {table.name for table in old.values()}
    for oid in old.keys() | new.keys():
        was, now = old.get(oid), new.get(oid)
        if was == now:
            continue
        names = {each.payload for each in (was, now) if each is not None}
        moved |= names
        if was is None:
            # One that came may be found before another of its name, by some search_path.
            only_stored = now is not None and now.name not in old_names
        else:
            only_stored = now is not None and now.is_only_stored_anew(was)
        if not only_stored:
            changed |= names
    return Moved(
        frozenset(moved),
        frozenset(moved - changed),
        before.published != after.published,
        before.reading != after.reading,
    )


def _number(text: str | None) -> int:
    # A sum of 64-bit hashes: of any sign, and longer than 64 bits.
    if text is None or len(text) > 40 or not text.removeprefix("-").isdecimal():
        raise ProtocolError(f"the server answered with {text!r:.60} where a sum belongs")
    return int(text)
