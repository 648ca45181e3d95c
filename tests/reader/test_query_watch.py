"""watching: what a computation really queried decides, whatever a router says."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from servers.process import wait_until

from django_pgnudge import nudged
from django_pgnudge.reader import query_watch
from django_pgnudge.reader.query_watch import Seen
from django_pgnudge.reader.statements import alters_session
from tests.feed.standby import Standby
from tests.fix_django import TEMPLATE, migrate_template, pointed
from tests.fix_servers import installations
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions")


class Router:
    """Reads come from these aliases in turn."""

    def __init__(self, *aliases: str) -> None:
        self._turns = itertools.cycle(aliases)

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return next(self._turns)


def products(using: str | None = None) -> list[str]:
    return sorted(Product.objects.using(using).values_list("name", flat=True))


def names(function: Any = products, key: str = "names") -> Any:
    return nudged.get_or_set(key, function, depends_on=[Product])


def add(name: str, using: str = "default") -> None:
    """Add a product, and tell no cache."""
    Product.objects.using(using).create(name=name)


def test_what_a_router_reads_from_another_database_is_not_kept(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DATABASE_ROUTERS = [Router("other")]
    assert names() == []
    add("replica", "other")
    assert names() == ["replica"]
    assert caplog.text.count("it queried the database 'other'") == 1


def test_a_router_is_not_asked_but_watched(settings: Any) -> None:
    """It answers another alias each time; what was read from the value's own alias is kept."""
    add("primary")
    settings.DATABASE_ROUTERS = [Router("other", "default")]
    assert names() == []
    assert names() == ["primary"]
    add("unseen")
    assert [names() for _ in range(3)] == [["primary"]] * 3


def test_a_model_that_a_router_reads_elsewhere_may_be_read_here(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [Router("other")]
    assert names(lambda: products("default")) == []
    add("unseen")
    assert names(lambda: products("default")) == []


def raw() -> list[str]:
    with connections["other"].cursor() as cursor:
        cursor.execute("SELECT name FROM shop_product ORDER BY 1")
        return [name for (name,) in cursor.fetchall()]


def by_server_side_cursor() -> list[str]:
    return [each.name for each in Product.objects.using("other").iterator(chunk_size=1)]


def in_a_thread_with_this_context() -> list[str]:
    def read() -> list[str]:
        try:
            return products("other")
        finally:
            connections["other"].close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, read).result()


@pytest.mark.parametrize(
    "function",
    [lambda: products("other"), raw, by_server_side_cursor, in_a_thread_with_this_context],
    ids=["using", "raw", "server-side cursor", "thread"],
)
def test_what_a_function_reads_from_another_database_is_not_kept(function: Any) -> None:
    connections["other"].close()
    assert names(function) == []
    add("there", "other")
    assert names(function) == ["there"]


def test_a_function_within_is_a_part_of_the_function() -> None:
    def outer() -> list[str]:
        inner: list[str] = names(lambda: products("other"), "inner")
        return inner

    assert names(outer) == []
    add("there", "other")
    assert names(outer) == ["there"]


def test_a_value_of_another_database_may_query_that_one() -> None:
    def there() -> Any:
        return nudged.get_or_set(
            "there", lambda: products("other"), depends_on=["own"], using="other"
        )

    with CaptureQueriesContext(connections["other"]) as queries:
        there()
    assert any("shop_product" in query["sql"] for query in queries)


@pytest.mark.usefixtures("fresh_threads")
async def test_what_async_code_queries_in_threads_is_seen() -> None:
    @nudged(Product)
    async def read(using: str) -> list[str]:
        found = Product.objects.using(using).values_list("name", flat=True)
        first = [name async for name in found]
        assert first == await sync_to_async(products)(using)
        return first

    await sync_to_async(add)("here")
    assert [await read("default"), await read("other")] == [["here"], []]
    await sync_to_async(add)("unseen")
    await sync_to_async(add)("there", "other")
    assert [await read("default"), await read("other")] == [["here"], ["there"]]


@pytest.mark.usefixtures("fresh_threads")
async def test_computations_at_a_time_are_told_apart() -> None:
    @nudged(Product)
    async def read(using: str) -> list[str]:
        await asyncio.sleep(0)
        return await sync_to_async(products)(using)

    await asyncio.gather(read("other"), read("default"))
    await sync_to_async(add)("unseen")
    await sync_to_async(add)("there", "other")
    assert await asyncio.gather(read("other"), read("default")) == [["there"], []]


def test_async_functions_are_seen_from_sync_code_too() -> None:
    @nudged(Product)
    async def read() -> list[str]:
        return await sync_to_async(products)("other")

    assert async_to_sync(read)() == []
    add("there", "other")
    assert async_to_sync(read)() == ["there"]


@pytest.mark.parametrize("each_cache", ["database"], indirect=True)
def test_what_the_cache_asks_for_itself_is_no_query_of_the_value(
    each_cache: str, settings: Any, nudge_fake: NudgeFake
) -> None:
    class CacheRouter:
        def db_for_read(self, model: Any, **hints: Any) -> str | None:
            return "other" if model._meta.app_label == "django_cache" else None

        db_for_write = db_for_read

    call_command("createcachetable", database="other", verbosity=0)
    settings.DATABASE_ROUTERS = [CacheRouter()]
    nudge_fake.lease()

    def outer() -> list[str]:
        names(products, "inner")
        return products()

    names(outer)
    add("unseen")
    assert names(outer) == []


def test_a_block_of_execute_wrapper_keeps_what_it_put_there() -> None:
    """Django takes away the last wrapper, and a connection may be made within the block."""
    connection.close()
    connection.execute_wrappers.clear()

    def mine(execute: Any, *args: Any) -> Any:
        return execute(*args)

    with connection.execute_wrapper(mine):
        Product.objects.exists()
        assert connection.execute_wrappers == [query_watch.execute_wrapper, mine]
    assert connection.execute_wrappers == [query_watch.execute_wrapper]
    connection.close()
    Product.objects.exists()
    assert connection.execute_wrappers == [query_watch.execute_wrapper]


def test_what_was_read_from_a_standby_is_not_kept(
    postgres_factory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    able = [each for each in installations() if each.bindir is not None]
    if not able:
        pytest.skip("no pg_basebackup here")
    primary = postgres_factory(able[0])
    migrate_template(primary)
    standby = Standby(primary)
    standby.start()
    try:
        copy = SimpleNamespace(
            host=primary.host, port=standby.port, user=primary.user, password=None
        )
        with pointed(copy, {"default": TEMPLATE}):  # type: ignore[arg-type]
            assert names() == []
            primary.execute("INSERT INTO shop_product (name, price) VALUES ('new', 0)", TEMPLATE)
            wait_until(lambda: products() == ["new"], "the standby's replay")
            assert names() == ["new"]
    finally:
        standby.stop()
    assert "leads to a standby" in caplog.text


def test_a_hit_is_not_watched() -> None:
    names()
    with CaptureQueriesContext(connection) as queries:
        names()
    assert len(queries) == 0


def test_a_computation_may_go_on_later() -> None:
    seen = Seen("default", None)
    with query_watch.watching(seen):
        Product.objects.exists()
    assert seen.reason() is None
    Category.objects.using("other").exists()
    assert seen.reason() is None
    with query_watch.watching(seen):
        Category.objects.using("other").exists()
    assert seen.reason() is not None


ALTERING = [
    "SET search_path = acme",
    "set local SEARCH_PATH to acme",
    "SET SESSION search_path TO acme, public",
    "SET SCHEMA 'acme'",
    "SELECT set_config('search_path', 'acme', false)",
    "SELECT pg_catalog.SET_CONFIG('Search_Path', 'acme', false)",
    "SET ROLE acme",
    "SET SESSION AUTHORIZATION acme",
    "RESET search_path",
    "RESET ALL",
    "RESET ROLE",
    "DISCARD ALL",
    "DISCARD TEMP",
    "/* a comment */ -- and another\nSET search_path = acme",
    "SELECT 1; SET search_path = acme",
    "CREATE TEMP TABLE t (id int)",
    "CREATE LOCAL TEMPORARY VIEW v AS SELECT 1",
    "SELECT 1 INTO TEMP t",
    "CALL switch('acme')",
    "DO $$ BEGIN PERFORM set_config('search_path', 'acme', false); END $$",
    b"SET search_path = acme",
]

PLAIN = [
    'SELECT "auth_group"."id" FROM "auth_group" WHERE "auth_group"."name" = %s LIMIT 21',
    '(SELECT "role" FROM "schema") UNION (SELECT 1)',
    "/* traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a' */ SELECT 1",
    'INSERT INTO "temperature" ("role") VALUES (%s) RETURNING "id"',
    'UPDATE "user" SET "role" = %s',
    'SAVEPOINT "s1_x1"',
    'ROLLBACK TO SAVEPOINT "s1_x1"',
    'RELEASE SAVEPOINT "s1_x1"',
    "WITH a AS (SELECT 1) SELECT * FROM a;",
    "SET statement_timeout = '5s'",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SELECT set_config('statement_timeout', '5s', true)",
    "SELECT set_config('app.tenant', '5', false)",
]


@pytest.mark.parametrize("sql", ALTERING)
def test_statements_that_may_change_what_a_name_means_are_known(sql: Any) -> None:
    assert alters_session(sql)


def test_a_setting_s_name_may_be_a_parameter() -> None:
    assert alters_session("SELECT set_config(%s, %s, false)", ["search_path", "acme"])


@pytest.mark.parametrize("sql", PLAIN)
def test_statements_that_leave_names_alone_are_known(sql: str) -> None:
    assert not alters_session(sql)
