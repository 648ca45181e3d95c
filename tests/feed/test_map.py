"""What a survey says of the map: that it moved though it is back, and that it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_pgnudge.errors import ConnectionLostError

from .moving import SCHEMA, keeps_names, moves

if TYPE_CHECKING:
    from collections.abc import Sequence

THERE_AND_BACK: dict[str, tuple[Sequence[str], set[str]]] = {
    "a partition moves to another table": (
        [
            "ALTER TABLE a DETACH PARTITION leaf",
            "ALTER TABLE b ATTACH PARTITION leaf FOR VALUES IN (1)",
        ],
        {"public.leaf", "public.b"},
    ),
    "a partition leaves and comes back": (
        [
            "ALTER TABLE a DETACH PARTITION leaf",
            "ALTER TABLE a ATTACH PARTITION leaf FOR VALUES IN (1)",
        ],
        {"public.leaf"},
    ),
    "a table is attached": (
        ["ALTER TABLE b ATTACH PARTITION loaded FOR VALUES IN (2)"],
        {"public.loaded", "public.b"},
    ),
    "a child leaves its parent and comes back": (
        ["ALTER TABLE child NO INHERIT other", "ALTER TABLE child INHERIT other"],
        {"public.child"},
    ),
    "a primary key is another for a while": (
        [
            "ALTER TABLE shop.plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (code)",
            "ALTER TABLE shop.plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (id)",
        ],
        {"shop.plain"},
    ),
    "an identity is another for a while": (
        [
            "ALTER TABLE shop.plain REPLICA IDENTITY NOTHING",
            "ALTER TABLE shop.plain REPLICA IDENTITY DEFAULT",
        ],
        {"shop.plain"},
    ),
    "a table is not logged for a while": (
        ["ALTER TABLE shop.plain SET UNLOGGED", "ALTER TABLE shop.plain SET LOGGED"],
        {"shop.plain"},
    ),
    "a table has another name for a while": (
        ["ALTER TABLE shop.plain RENAME TO odd", "ALTER TABLE shop.odd RENAME TO plain"],
        {"shop.plain"},
    ),
    "a table is renamed": (["ALTER TABLE loaded RENAME TO odd"], {"public.loaded", "public.odd"}),
    "a table is in another schema for a while": (
        ["ALTER TABLE other SET SCHEMA shop", "ALTER TABLE shop.other SET SCHEMA public"],
        {"public.other"},
    ),
    "a schema has another name for a while": (
        ["ALTER SCHEMA shop RENAME TO odd", "ALTER SCHEMA odd RENAME TO shop"],
        {"shop.plain"},
    ),
    "two columns change names": (
        [
            "ALTER TABLE shop.plain RENAME id TO odd",
            "ALTER TABLE shop.plain RENAME code TO id",
            "ALTER TABLE shop.plain RENAME odd TO code",
        ],
        {"shop.plain"},
    ),
    "a table goes": (["DROP TABLE loaded"], {"public.loaded"}),
    "a table comes": (["CREATE TABLE odd (id int)"], {"public.odd"}),
    "values are computed anew": (
        ["ALTER TABLE shop.plain ALTER note TYPE int USING 1"],
        {"shop.plain"},
    ),
    "a table is emptied": (["TRUNCATE shop.plain"], {"shop.plain"}),
}

NOT_MOVED = {
    "statistics": ["ANALYZE"],
    "vacuum": ["VACUUM (FREEZE)"],
    "rows": ["INSERT INTO other SELECT generate_series(1, 1000)", "DELETE FROM ONLY other"],
    "temporary relations": [
        "CREATE TEMP TABLE passing (id int PRIMARY KEY); ALTER TABLE passing ADD x int",
        "CREATE TEMP VIEW passed AS SELECT * FROM other",
    ],
    "an index": ["CREATE INDEX ON shop.plain (note)", "REINDEX TABLE shop.plain"],
    "a comment": ["COMMENT ON TABLE other IS 'x'"],
    "an undone change": ["BEGIN; ALTER TABLE other RENAME TO odd; ROLLBACK"],
    "a materialized view": ["REFRESH MATERIALIZED VIEW kept"],
}

READ_BY_QUERIES = {
    "a materialized view has another name for a while": [
        "ALTER MATERIALIZED VIEW kept RENAME TO odd",
        "ALTER MATERIALIZED VIEW odd RENAME TO kept",
    ],
    "a materialized view goes where a search_path finds it first": [
        "ALTER MATERIALIZED VIEW kept SET SCHEMA shop",
    ],
    "a materialized view is made": ["CREATE MATERIALIZED VIEW shop.other AS SELECT 1 AS id"],
    "a view has another name for a while": [
        "ALTER VIEW seen RENAME TO odd",
        "ALTER VIEW odd RENAME TO seen",
    ],
    "a view": ["CREATE OR REPLACE VIEW seen AS SELECT id + 1 - 1 AS id FROM other"],
    "the names of views": [
        "CREATE VIEW newer AS SELECT 1 AS id",
        "ALTER VIEW seen RENAME TO older",
        "ALTER VIEW newer RENAME TO seen",
    ],
    "a function": ["CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'"],
    "an enum's label": ["ALTER TYPE state RENAME VALUE 'open' TO 'opened'"],
    "a policy": ["ALTER POLICY mine ON other USING (false)"],
}


@pytest.mark.parametrize("change", THERE_AND_BACK)
async def test_a_table_that_changed_has_moved_also_if_it_is_back(feed_server, database, change):
    database.execute(*SCHEMA)
    statements, payloads = THERE_AND_BACK[change]
    if "ALTER SCHEMA" in statements[0] and keeps_names(feed_server):
        with pytest.raises(ConnectionLostError, match="a schema has changed"):
            await moves(database, *statements)
        return
    moved = await moves(database, *statements)
    assert moved.payloads == payloads
    assert not moved.publication
    assert not moved.reading


@pytest.mark.parametrize("change", NOT_MOVED)
async def test_what_changes_no_name_key_or_coverage_moves_nothing(postgres, database, change):
    database.execute(*SCHEMA, "CREATE PUBLICATION every FOR ALL TABLES")
    statements = NOT_MOVED[change]
    assert not await moves(database, *statements, plugin="pgoutput", publication="every")


@pytest.mark.parametrize("change", READ_BY_QUERIES)
async def test_what_queries_read_by_has_moved_and_no_table(feed_server, database, change):
    database.execute(*SCHEMA)
    moved = await moves(database, *READ_BY_QUERIES[change])
    assert moved.reading
    assert not moved.payloads
    assert not moved.publication


async def test_a_setting_of_the_database_is_read_by_queries(postgres, database):
    database.execute(*SCHEMA, "CREATE PUBLICATION every FOR ALL TABLES")
    moved = await moves(
        database,
        f"ALTER DATABASE {database.name} SET search_path = shop",
        plugin="pgoutput",
        publication="every",
    )
    assert moved.reading


PUBLISHED = {
    "a table leaves and comes back": (
        ["ALTER PUBLICATION ours DROP TABLE other", "ALTER PUBLICATION ours ADD TABLE other"],
        {"public.other", "public.child"},
        False,
    ),
    "its rows are filtered for a while": (
        [
            "ALTER PUBLICATION ours SET TABLE other WHERE (id > 5), shop.plain",
            "ALTER PUBLICATION ours SET TABLE other, shop.plain",
        ],
        {"public.other", "public.child"},
        False,
    ),
    "it leaves out an operation for a while": (
        [
            "ALTER PUBLICATION ours SET (publish = 'insert')",
            "ALTER PUBLICATION ours SET (publish = 'insert, update, delete, truncate')",
        ],
        set(),
        True,
    ),
    "it is dropped and made again": (
        ["DROP PUBLICATION ours", "CREATE PUBLICATION ours FOR TABLE other, shop.plain"],
        {"public.other", "public.child", "shop.plain"},
        True,
    ),
    "a schema leaves and comes back": (
        [
            "ALTER PUBLICATION ours ADD TABLES IN SCHEMA shop",
            "ALTER PUBLICATION ours DROP TABLES IN SCHEMA shop",
            "ALTER PUBLICATION ours ADD TABLES IN SCHEMA shop",
        ],
        set(),
        True,
    ),
    "another one": (["CREATE PUBLICATION theirs FOR ALL TABLES"], set(), False),
}


FROM_15 = ("its rows are filtered for a while", "a schema leaves and comes back")


@pytest.mark.parametrize("change", PUBLISHED)
async def test_a_publication_that_changed_has_moved_also_if_it_is_back(postgres, database, change):
    statements, payloads, whole = PUBLISHED[change]
    if postgres.installation.version < (15, 0) and change in FROM_15:
        pytest.skip("PostgreSQL 14 has no row filters and publishes no schemas")
    database.execute(*SCHEMA, "CREATE PUBLICATION ours FOR TABLE other, shop.plain")
    moved = await moves(database, *statements, plugin="pgoutput", publication="ours")
    assert moved.payloads == payloads
    assert moved.publication is whole
    assert not moved.reading
