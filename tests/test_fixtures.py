"""The fixtures themselves: what they promise to the other tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group
from django.db import connections

from tests import ROOT, fix_servers

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


def test_what_is_required_and_missing_ends_the_session_in_words(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    have = dict.fromkeys(fix_servers.available(), True) | {"wal2json": False}
    monkeypatch.setattr(fix_servers, "available", lambda: have)
    monkeypatch.setenv("PGNUDGE_TEST_REQUIRE", "redis, wal2json")
    with pytest.raises(pytest.exit.Exception, match="no wal2json here: install it") as raised:
        fix_servers.pytest_configure(pytestconfig)
    assert raised.value.returncode == 1
    assert "no redis" not in str(raised.value)
    monkeypatch.setenv("PGNUDGE_TEST_REQUIRE", "wal2jason")
    with pytest.raises(pytest.UsageError, match="wal2jason; known are pgoutput"):
        fix_servers.pytest_configure(pytestconfig)


STRAY = """
import asyncio


def fail():
    raise LookupError("thrown away")


def test_stray():
    async def main():
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_unasked_task():
    async def main():
        task = asyncio.create_task(asyncio.to_thread(fail))
        await asyncio.wait([task])

    asyncio.run(main())


def test_clean():
    asyncio.run(asyncio.sleep(0))
"""


def test_a_stray_exception_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_stray.py").write_text(STRAY)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.fix_loop"),
            *("-p", "no:django", "-p", "no:asyncio", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", str(tmp_path), str(tmp_path)),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("LookupError('thrown away')") >= 2, done.stdout
    # The calls themselves pass; it is the fixture, after them, that fails.
    assert "3 passed, 2 errors" in done.stdout
