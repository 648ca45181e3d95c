"""Reads publications, and finds published tables on which UPDATE and DELETE would fail.

The migration operations and the system checks use this. A server refuses every UPDATE and DELETE on
a published table that has no replica identity, or whose identity has columns that the publication
leaves out (``CheckCmdReplicaIdentity`` in src/backend/executor/execReplication.c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.feed.table_keys import KEY_COLUMNS_OF_INDEX, can_identify
from django_pgnudge.registry.catalog import payload_for, quote_identifier, server_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

COLUMN_LISTS: Final = 150_000
"""The first version with column lists, row filters and FOR TABLES IN SCHEMA."""

GENERATED_COLUMNS: Final = 180_000
"""The first version that can publish generated columns, and that requires those of a replica
identity to be published."""

_PUBLICATION: Final = """
SELECT p.puballtables OR {has_schemas}, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's'
  FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""

_KEY_COLUMNS: Final = f"""
    SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place)
      FROM {KEY_COLUMNS_OF_INDEX}
     WHERE i.indrelid = c.oid AND {can_identify("i")}
"""  # noqa: S608 -- nothing in it comes from outside

# `entry` is the table under whose name, and so with whose column list, `oid` is published.
_TABLES: Final = f"""
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       c.relpersistence::pg_catalog.text, c.relreplident::pg_catalog.text,
       (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated <> ''),
       ({_KEY_COLUMNS} AND i.indisprimary),
       ({_KEY_COLUMNS} AND i.indisreplident),
       r.prrelid IS NOT NULL,
       p.oid IS NOT NULL AND (p.puballtables OR {{in_schema}}),
       {{listed}}
  FROM tree
  JOIN pg_catalog.pg_class c ON c.oid = tree.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = %s
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = tree.entry
"""  # noqa: S608 -- nothing in it comes from outside

# The table, its partitions and the tables that inherit from it. A partition is published with its
# root.
_FAMILY: Final = """
WITH RECURSIVE tree (oid, entry) AS (
    SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid, pg_catalog.to_regclass(%s)::pg_catalog.oid
    UNION
    SELECT i.inhrelid, CASE WHEN c.relispartition THEN tree.entry ELSE i.inhrelid END
      FROM tree
      JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
)
"""

# With publish_via_partition_root the view names the root, and the root's column list must cover the
# identity of each partition.
_PUBLISHED: Final = """
WITH RECURSIVE tree (oid, entry) AS (
    SELECT c.oid, c.oid
      FROM pg_catalog.pg_publication_tables t
      JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
     WHERE t.pubname = %s
    UNION
    SELECT i.inhrelid, tree.entry
      FROM tree
      JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND c.relkind = 'p'
      JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
)
"""


@dataclass(frozen=True, slots=True)
class PublicationState:
    """A publication in the database.

    ``is_open``: it is for all tables, or for all tables of a schema. ``generated``: it publishes
    stored generated columns.
    """

    is_open: bool
    operations: dict[str, bool]
    generated: bool


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table, and what one publication contains of it.

    ``is_entry``: the publication names it, with the columns ``listed``, or all columns if that is
    None. ``is_implied``: the publication is for all tables, or for all tables of its schema.
    """

    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    generated: tuple[str, ...] | None
    primary_key: tuple[str, ...] | None
    identity_index: tuple[str, ...] | None
    is_entry: bool = False
    is_implied: bool = False
    listed: tuple[str, ...] | None = None

    @property
    def payload(self) -> str:
        return payload_for(self.schema, self.name)

    def refusal(self) -> str | None:
        """Why a publication must not contain this table; None if it may."""
        if self.kind not in ("r", "p"):
            return "is not a table"
        if self.persistence == "u":
            return "is unlogged, so its changes are in no write-ahead log"
        return self.lacks_identity()

    def lacks_identity(self) -> str | None:
        """Why it has no replica identity; None if it has one, or is a partitioned table.

        For a partitioned table the identities of its partitions count.
        """
        if self.kind == "p" or self.identity == "f":
            return None
        identities = {"d": self.primary_key, "i": self.identity_index}
        if identities.get(self.identity):
            return None
        return {
            "d": "has no primary key, or a DEFERRABLE one, and so no replica identity",
            "i": "has lost the index that is its replica identity",
            "n": "has REPLICA IDENTITY NOTHING",
        }.get(self.identity, "has no replica identity")

    def left_out(self, version: int, listed: Sequence[str] | None, *, generated: bool) -> str:
        """Which part of the replica identity a publication leaves out; empty if none.

        ``version`` is the server's. ``listed`` is the column list. ``generated`` says whether
        generated columns are published without a column list.
        """
        if self.kind == "p":
            return ""
        if self.identity == "f":
            if listed is not None:
                return "has REPLICA IDENTITY FULL, which no column list covers"
            own = set(self.generated or ())
        else:
            own = set((self.primary_key if self.identity == "d" else self.identity_index) or ())
        if listed is not None:
            missing = own - set(listed)
        elif version >= GENERATED_COLUMNS and not generated:
            missing = own & set(self.generated or ())
        else:
            return ""
        if not missing:
            return ""
        return f"has {', '.join(sorted(missing))} in its replica identity, which is not published"

    def columns(self, version: int) -> list[str] | None:
        """The columns to publish; None for the whole table, if a column list is not possible.

        For a partitioned table a list needs publish_via_partition_root, which drops TRUNCATE of a
        single partition. So it is published whole, by partition, with future partitions.
        """
        whole = version < COLUMN_LISTS or self.kind == "p" or self.identity == "f"
        if whole or not self.primary_key:
            return None
        needed = list(dict.fromkeys([*self.primary_key, *(self.identity_index or ())]))
        if version < GENERATED_COLUMNS and set(needed) & set(self.generated or ()):
            return None
        return needed


def regclass(schema: str | None, name: str) -> str:
    """A table's name for SQL and for ``to_regclass``."""
    return ".".join(map(quote_identifier, [name] if schema is None else [schema, name]))


def column_list(columns: Sequence[str] | None) -> str:
    """Columns as SQL, to append to a table's name."""
    return "" if columns is None else f" ({', '.join(map(quote_identifier, columns))})"


def find_publication(connection: BaseDatabaseWrapper, name: str) -> PublicationState | None:
    """The publication of that name, or None."""
    has_schemas = "false"
    if server_version(connection) >= COLUMN_LISTS:
        has_schemas = (
            "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid)"
        )
    with connection.cursor() as cursor:
        cursor.execute(_PUBLICATION.format(has_schemas=has_schemas), [name])
        row = cursor.fetchone()
    if row is None:
        return None
    operations = dict(zip(("INSERT", "UPDATE", "DELETE", "TRUNCATE"), row[1:5], strict=True))
    return PublicationState(row[0], operations, bool(row[5]))


def find_family(
    connection: BaseDatabaseWrapper, publication: str, schema: str | None, name: str
) -> list[PublishedTable]:
    """A table, then its partitions and inheriting tables; empty if search_path does not find it."""
    here = regclass(schema, name)
    order = "ORDER BY tree.oid <> pg_catalog.to_regclass(%s)::pg_catalog.oid, 1, 2"
    return _tables(connection, _FAMILY, order, [here, here, publication, here])


def find_published(connection: BaseDatabaseWrapper, publication: str) -> list[PublishedTable]:
    """Every table whose changes a publication sends; each partition is listed separately."""
    return _tables(connection, _PUBLISHED, "ORDER BY 1, 2", [publication, publication])


def _tables(
    connection: BaseDatabaseWrapper, tree: str, order: str, values: list[Any]
) -> list[PublishedTable]:
    in_schema, listed = "false", "NULL"
    if server_version(connection) >= COLUMN_LISTS:
        in_schema = (
            "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s"
            " WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
        )
        listed = (
            "(SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place)"
            " FROM pg_catalog.unnest(r.prattrs::pg_catalog.int2[])"
            " WITH ORDINALITY AS k (attnum, place)"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.entry AND a.attnum = k.attnum)"
        )
    query = tree + _TABLES.format(in_schema=in_schema, listed=listed) + order
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows: list[list[Any]] = [
            [tuple(value) if isinstance(value, list) else value for value in row]
            for row in cursor.fetchall()
        ]
    return [PublishedTable(*row) for row in rows]
