"""Tables of every kind, what is done to them, and whether a feed misses some of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from .following import Follower, run

if TYPE_CHECKING:
    from tests.fix_servers import Database

# Each is a table with the columns id and v, made by these statements, and what a query of it reads.
KINDS: dict[str, tuple[str, ...]] = {
    "keyed": ("CREATE TABLE keyed (id int PRIMARY KEY, v int)",),
    "nokey": ("CREATE TABLE nokey (id int, v int)",),
    "deferred": ("CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, v int)",),
    "deferred_full": (
        "CREATE TABLE deferred_full (id int PRIMARY KEY DEFERRABLE, v int)",
        "ALTER TABLE deferred_full REPLICA IDENTITY FULL",
    ),
    "by_index": (
        "CREATE TABLE by_index (id int NOT NULL, v int)",
        "CREATE UNIQUE INDEX by_index_id ON by_index (id)",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id",
    ),
    "index_gone": (
        "CREATE TABLE index_gone (id int PRIMARY KEY, u int NOT NULL DEFAULT 0, v int)",
        "CREATE UNIQUE INDEX index_gone_u ON index_gone (id, u)",
        "ALTER TABLE index_gone REPLICA IDENTITY USING INDEX index_gone_u",
        "DROP INDEX index_gone_u",
    ),
    "nothing": (
        "CREATE TABLE nothing (id int PRIMARY KEY, v int)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    ),
    "unlogged": ("CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v int)",),
    "generated": (
        ("CREATE TABLE generated (id int PRIMARY KEY, v int,"
         " g int GENERATED ALWAYS AS (v * 2) STORED)"),
    ),
    "stored_outside": (
        ("CREATE TABLE stored_outside (id int PRIMARY KEY, v int,"
         " t text DEFAULT repeat('x', 9000))"),
        "ALTER TABLE stored_outside ALTER t SET STORAGE EXTERNAL",
    ),
    "parent": (
        "CREATE TABLE parent (id int PRIMARY KEY, v int)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child)",
    ),
    "parent_of_nokey": (
        "CREATE TABLE parent_of_nokey (id int PRIMARY KEY, v int)",
        "CREATE TABLE child_nokey () INHERITS (parent_of_nokey)",
    ),
    "parent_of_unlogged": (
        "CREATE TABLE parent_of_unlogged (id int PRIMARY KEY, v int)",
        "CREATE UNLOGGED TABLE child_unlogged (PRIMARY KEY (id)) INHERITS (parent_of_unlogged)",
    ),
    "root": (
        "CREATE TABLE root (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100)",
        ("CREATE TABLE branch PARTITION OF root FOR VALUES FROM (100) TO (200)"
         " PARTITION BY RANGE (id)"),
        "CREATE TABLE twig PARTITION OF branch FOR VALUES FROM (100) TO (200)",
    ),
    "root_of_attached": (
        "CREATE TABLE root_of_attached (id int, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE attached (v int, id int NOT NULL PRIMARY KEY)",
        "ALTER TABLE root_of_attached ATTACH PARTITION attached FOR VALUES FROM (0) TO (100)",
    ),
    "root_of_nokey": (
        "CREATE TABLE root_of_nokey (id int, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf_nokey PARTITION OF root_of_nokey FOR VALUES FROM (0) TO (100)",
    ),
    "root_of_unlogged": (
        "CREATE TABLE root_of_unlogged (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        ("CREATE UNLOGGED TABLE leaf_unlogged PARTITION OF root_of_unlogged"
         " FOR VALUES FROM (0) TO (100)"),
    ),
    "root_of_foreign": (
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE TABLE root_of_foreign (id int, v int) PARTITION BY RANGE (id)",
        ("CREATE FOREIGN TABLE leaf_foreign PARTITION OF root_of_foreign"
         " FOR VALUES FROM (0) TO (100) SERVER elsewhere"),
    ),
}  # fmt: skip
STATEMENTS = (
    "INSERT INTO {} (id) VALUES ({id})",
    "UPDATE {} SET v = 1",
    "UPDATE {} SET id = id + 1",
    "DELETE FROM {}",
    "INSERT INTO {} (id) VALUES ({id})",
    "TRUNCATE ONLY {}",
    "INSERT INTO {} (id) VALUES ({id})",
    "TRUNCATE {top}",
)
PARTS = {
    "parent": ("parent", "child", "grandchild"),
    "parent_of_nokey": ("parent_of_nokey", "child_nokey"),
    "parent_of_unlogged": ("parent_of_unlogged", "child_unlogged"),
    "root": ("leaf", "twig"),
    "root_of_attached": ("attached",),
    "root_of_nokey": ("leaf_nokey",),
    "root_of_unlogged": ("leaf_unlogged",),
    "root_of_foreign": ("leaf_foreign",),
}
"""Of those that have several, the tables with rows."""

NEVER = {"unlogged", "parent_of_unlogged", "root_of_unlogged", "root_of_foreign"}
UNIDENTIFIED = {
    "nokey", "deferred", "index_gone", "nothing", "parent_of_nokey", "root_of_nokey"
}  # fmt: skip


def make(database: Database, *, kinds: set[str] | None = None) -> set[str]:
    """Make tables of these kinds (all); what this server can have."""
    made = set()
    for kind, statements in KINDS.items():
        if kinds is not None and kind not in kinds:
            continue
        try:
            database.execute(*statements)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
            continue
        made.add(kind)
    return made


def names(payloads: frozenset[str], among: set[str]) -> set[str]:
    return {kind for kind in among if f"public.{kind}" in payloads}


async def silent(seen: Follower, database: Database, kind: str) -> list[str]:
    """The statements that change what a query of this table reads and of which nothing comes.

    What the server refuses changes nothing.
    """
    parts = PARTS.get(kind, (kind,))
    lineage = {f"public.{name}" for name in (kind, "branch", *parts)}
    missing = []
    with closing(database.postgres.connect(database.name)) as writer:
        for part in parts:
            first = 110 if part == "twig" else 10
            for place, template in enumerate(STATEMENTS):
                sql = template.format(part, id=first + 3 * place, top=kind)
                before = sum(seen.counts[name] for name in lineage)
                try:
                    await run(writer.execute, sql)
                except psycopg.errors.ObjectNotInPrerequisiteState:
                    continue  # It has no replica identity.
                await seen.feed.catch_up()
                if sum(seen.counts[name] for name in lineage) == before:
                    missing.append(sql)
    return missing


PUBLISHED = {"keyed", "generated", "parent", "root"}


def publish(database: Database, options: str) -> None:
    try:
        database.execute(f"CREATE PUBLICATION nudge {options}")
    except psycopg.errors.SyntaxError:
        pytest.skip("this server has no such publication")
