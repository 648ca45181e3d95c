"""feed/fingerprint.py and feed/survey.py: the map is read while it moves."""

from __future__ import annotations

from contextlib import suppress

import pytest

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.feed.stream import Stream

from .following import feed_of, following, run
from .moving import SCHEMA, keeps_names


async def test_a_change_while_the_slot_is_made_has_moved_and_keys_are_those_behind_it(
    feed_server, database
):
    database.execute(*SCHEMA)
    feed = feed_of(database)
    with database.connect() as writer:
        # A slot waits for whoever writes.
        writer.execute("BEGIN; INSERT INTO loaded VALUES (1)")
        async with following(feed, live=False) as seen:
            making = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION%'"
            while not await run(database.execute, making):
                pass
            await run(
                database.execute,
                "ALTER TABLE shop.plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (code)",
            )
            await run(writer.execute, "COMMIT")
            await seen.resync("connected")
            assert (await feed.survey()).moved.payloads == {"shop.plain"}
            await run(database.execute, "INSERT INTO shop.plain VALUES (1, 22)")
            await seen.payload("shop.plain")
            assert seen.keys("shop.plain") == {(22,)}


async def test_keys_are_read_anew_as_the_map_has_them(feed_server, database):
    database.execute(*SCHEMA)
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO shop.plain VALUES (1, 22)")
        await seen.payload("shop.plain")
        assert seen.keys("shop.plain") == {(1,)}
        await run(
            database.execute,
            "ALTER TABLE shop.plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (code)",
        )
        survey = await seen.feed.survey()
        await seen.feed.relearn(survey)
        seen.items.clear()
        await run(database.execute, "INSERT INTO shop.plain VALUES (2, 33)")
        await seen.payload("shop.plain")
        assert seen.keys("shop.plain") == {(33,)}


async def test_what_is_covered_is_read_again_if_the_map_moved_meanwhile(
    feed_server, database, monkeypatch
):
    database.execute(*SCHEMA)
    async with following(feed_of(database)) as seen:
        read = Stream.covered

        async def covered(stream: Stream) -> frozenset[str]:
            monkeypatch.setattr(Stream, "covered", read)
            found = await read(stream)
            await run(database.execute, "ALTER TABLE shop.plain SET UNLOGGED")
            return found

        monkeypatch.setattr(Stream, "covered", covered)
        survey = await seen.feed.survey()
        assert "shop.plain" in survey.covered, "as it was a moment before"
        assert survey.moved.payloads == {"shop.plain"}
        await seen.feed.relearn(survey)
        seen.feed.accept(survey)
        survey = await seen.feed.survey()
        assert not survey.moved
        assert "shop.plain" not in survey.covered


async def test_changes_come_under_the_name_that_a_schema_has_now(feed_server, database):
    """pgoutput before PostgreSQL 16 goes on with the name under which it has sent a table."""
    database.execute(*SCHEMA)
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO shop.plain VALUES (1, 1)")
        await seen.payload("shop.plain")
        await run(database.execute, "ALTER SCHEMA shop RENAME TO odd")
        with suppress(ConnectionLostError):
            assert "odd.plain" in (await seen.feed.survey()).moved.payloads
        goes_on = database.plugin == "pgoutput" and feed_server.postgres.installation.version < (
            16,
            0,
        )
        if goes_on:
            await seen.resync("reconnected")
        await run(database.execute, "INSERT INTO odd.plain VALUES (2, 2)")
        await seen.payload("odd.plain")
        assert seen.resyncs == ["connected", *["reconnected"] * keeps_names(feed_server)]


async def test_what_is_covered_is_not_asked_again_while_the_map_stands_still(
    feed_server, database, monkeypatch
):
    database.execute(*SCHEMA)
    async with following(feed_of(database)) as seen:
        first = await seen.feed.survey()

        async def covered(stream: Stream) -> frozenset[str]:
            raise AssertionError("asked again")

        with monkeypatch.context() as patched:
            patched.setattr(Stream, "covered", covered)
            assert (await seen.feed.survey()).covered == first.covered
        await run(database.execute, "CREATE TABLE odd (id int PRIMARY KEY)")
        assert "public.odd" in (await seen.feed.survey()).covered


async def test_a_survey_of_a_stream_that_has_ended_is_worth_nothing(postgres, database):
    database.execute(*SCHEMA, "CREATE PUBLICATION every FOR ALL TABLES")
    async with following(feed_of(database, plugin="pgoutput", publication="every")) as seen:
        survey = await seen.feed.survey()
        await run(database.execute, f"SELECT pg_terminate_backend({seen.feed.connection_pid})")
        await seen.resync("reconnected")
        with pytest.raises(ConnectionLostError, match="meanwhile"):
            seen.feed.accept(survey)
        with pytest.raises(ConnectionLostError, match="meanwhile"):
            await seen.feed.relearn(survey)


async def test_a_role_that_may_only_replicate_can_survey(postgres, database):
    database.execute(
        *SCHEMA, "CREATE PUBLICATION every FOR ALL TABLES",
        f"CREATE ROLE nudge_{database.name} LOGIN REPLICATION",
    )  # fmt: skip
    try:
        feed = feed_of(
            database, plugin="pgoutput", publication="every", user=f"nudge_{database.name}"
        )
        async with following(feed) as seen:
            survey = await seen.feed.survey()
        assert "public.other" in survey.covered
        assert survey.stream.identity.system is not None
    finally:
        database.execute(f"DROP ROLE nudge_{database.name}")


async def test_a_server_that_tells_its_role_no_identifier_is_told_by_its_start(postgres, database):
    """Some made of PostgreSQL have no pg_control_system, and any can revoke it."""
    role = f"nudge_{database.name}"
    database.execute(
        "CREATE PUBLICATION every FOR ALL TABLES",
        f"CREATE ROLE {role} LOGIN REPLICATION",
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
    )
    try:
        feed = feed_of(database, plugin="pgoutput", publication="every", user=role)
        async with following(feed) as seen:
            survey = await seen.feed.survey()
        assert survey.stream.identity.system is None
        assert "started at" in str(survey.stream.identity)
    finally:
        database.execute(f"DROP ROLE {role}")
