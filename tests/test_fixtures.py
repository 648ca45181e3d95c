"""The fixtures themselves: what they promise to the other tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group
from django.db import connections

if TYPE_CHECKING:
    from typing import Any

    from servers.redis import Redis

    from tests.fix_servers import Database, FeedServer


def test_a_database_is_fresh_and_on_the_feed_servers_server(
    feed_server: FeedServer, database: Database
) -> None:
    assert database.postgres is feed_server.postgres
    assert database.plugin == feed_server.plugin
    assert database.execute(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    ) == [(0,)]
    assert database.slots() == []


def test_feed_options_bring_a_publication_exactly_where_the_plugin_needs_one(
    feed_server: FeedServer, database: Database
) -> None:
    options = database.feed_options(debounce=0.5)
    assert (options["database"], options["plugin"]) == (database.name, feed_server.plugin)
    assert options["debounce"] == 0.5
    assert ("publication" in options) == (feed_server.plugin == "pgoutput")
    assert database.feed_options() == {
        key: value for key, value in options.items() if key != "debounce"
    }


def test_djangos_aliases_are_separate_migrated_databases_of_the_test(
    feed_server: FeedServer, django_postgres: Database, other_database: Database
) -> None:
    Group.objects.create(name="only here")
    Group.objects.using("other").create(name="only there")
    names = {connections[alias].settings_dict["NAME"] for alias in ("default", "other")}
    assert names == {django_postgres.name, other_database.name}
    assert django_postgres.execute("SELECT name FROM auth_group") == [("only here",)]
    assert other_database.execute("SELECT name FROM auth_group") == [("only there",)]
    assert django_postgres.postgres is feed_server.postgres


@pytest.mark.django_db(databases=["default", "other"])
def test_pytest_djangos_own_databases_are_on_a_real_server() -> None:
    assert Group.objects.count() == Group.objects.using("other").count() == 0
    assert connections["default"].vendor == "postgresql"


def test_redis_is_empty_at_the_start_of_a_test(redis_server: Redis) -> None:
    assert redis_server.command("DBSIZE") == ":0"
    redis_server.command("SET", "left", "over")


def test_redis_is_empty_after_another_test(redis_server: Redis) -> None:
    assert redis_server.command("DBSIZE") == ":0"


async def test_a_stray_exception_is_recorded(stray_exceptions: list[dict[str, Any]]) -> None:
    def fail() -> None:
        raise LookupError("stray")

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [str(context["exception"]) for context in stray_exceptions] == ["stray"]
    stray_exceptions.clear()
