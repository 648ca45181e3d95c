"""How a feed tells that the map has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .following import feed_of, following, run

if TYPE_CHECKING:
    from django_pgnudge.feed.fingerprint import Moved
    from django_pgnudge.feed.survey import Survey

SCHEMA = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.plain (id int PRIMARY KEY, code int NOT NULL UNIQUE, note text)",
    "CREATE TABLE other (id int PRIMARY KEY)",
    "CREATE TABLE a (id int) PARTITION BY LIST (id)",
    "CREATE TABLE b (id int) PARTITION BY LIST (id)",
    "CREATE TABLE leaf PARTITION OF a FOR VALUES IN (1)",
    "CREATE TABLE loaded (id int)",
    "CREATE TABLE child () INHERITS (other)",
    "CREATE MATERIALIZED VIEW kept AS SELECT * FROM other",
    "CREATE VIEW seen AS SELECT id FROM other",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE state AS ENUM ('open', 'shut')",
    "CREATE POLICY mine ON other USING (true)",
)


async def moves(database: Any, *statements: str, **options: Any) -> Moved:
    """What a survey says of these statements, after one that accepted the map before them."""
    async with following(feed_of(database, **options)) as seen:
        before = await seen.feed.survey()
        assert not before.moved
        await run(database.execute, *statements)
        survey: Survey = await seen.feed.survey()
        await seen.feed.relearn(survey)
        seen.feed.accept(survey)
        assert not (await seen.feed.survey()).moved
    return survey.moved


def keeps_names(feed_server: Any) -> bool:
    """Whether tables go on to come under a name of their schema that is no more."""
    version = feed_server.postgres.installation.version
    return bool(feed_server.plugin == "pgoutput" and version < (16, 0))
