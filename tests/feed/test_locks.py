"""What others lock holds up neither nudges nor surveys, and what we ask holds up nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.feed import session_settings
from tests.waiting import until

from .following import feed_of, following, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .following import Follower

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'pg_policy'::regclass"

TABLES = (
    "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    "CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)",
    "CREATE TABLE other (id int PRIMARY KEY)",
)


def more_than(seen: Follower, count: int) -> bool:
    return seen.counts["public.other"] > count


async def test_a_lock_on_a_catalog_holds_up_no_nudge(
    feed_server: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query that waits for it stands in front of no other."""
    patient: Mapping[str, str] = {**session_settings._QUERIES, "lock_timeout": "60s"}  # noqa: SLF001 - the wait is to be longer
    monkeypatch.setattr(session_settings, "_QUERIES", patient)
    database.execute(*TABLES)
    async with following(feed_of(database)) as seen:
        with database.connect() as locking, locking.transaction():
            await run(locking.execute, "LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE")
            survey = asyncio.create_task(seen.feed.survey())
            await until(lambda: database.execute(WAITING), blocks=True)
            for number in range(3):
                await run(database.execute, f"INSERT INTO other VALUES ({number})")
                await seen.until(partial(more_than, seen, number))
            assert not survey.done()
        assert "public.other" in (await survey).covered


@pytest.mark.parametrize("table", ["parted", "part_1", "other"])
async def test_a_lock_on_a_table_holds_up_no_survey(
    feed_server: Any, database: Any, table: str
) -> None:
    database.execute(*TABLES)
    async with following(feed_of(database)) as seen:
        with database.connect() as locking, locking.transaction():
            await run(locking.execute, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            assert {"public.parted", "public.other"} <= (await seen.feed.survey()).covered
            await seen.feed.catch_up()


async def test_a_survey_holds_no_lock_on_a_table(feed_server: Any, database: Any) -> None:
    """A migration would be the victim of a deadlock: it has one table, and wants the other."""
    database.execute(*TABLES)
    async with following(feed_of(database)) as seen:
        with database.connect() as migrating, migrating.transaction():
            await run(migrating.execute, "SET LOCAL deadlock_timeout = '10ms'")
            for change in (
                "ALTER TABLE part_1 ADD CHECK (id >= 0)",
                "ALTER TABLE parted ADD COLUMN note text",
                "ALTER TABLE other ADD COLUMN note text",
            ):
                surveys = [asyncio.create_task(seen.feed.survey()) for _ in range(3)]
                await run(migrating.execute, change)
                await asyncio.gather(*surveys)
        survey = await seen.feed.survey()
        assert {"public.parted", "public.other"} <= survey.moved.payloads
