"""bypass: a transaction whose view is not everybody's is served nothing and keeps nothing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged
from django_pgnudge.reader import dependencies
from django_pgnudge.reader.session import IDLE, INTRANS, UNKNOWN, status
from tests.shop.models import Product

if TYPE_CHECKING:
    from pathlib import Path

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions")


def names() -> Any:
    return nudged.get_or_set(
        "names", lambda: sorted(Product.objects.values_list("name", flat=True)),
        depends_on=[Product],
    )  # fmt: skip


def test_a_connection_in_autocommit_is_not_asked() -> None:
    names()
    with CaptureQueriesContext(connection) as queries:
        assert names() == []
    assert len(queries) == 0


def test_a_transaction_that_has_written_sees_its_own_and_keeps_nothing() -> None:
    assert names() == []
    with transaction.atomic():
        assert names() == []
        Product.objects.create(name="mine")
        assert names() == ["mine"]
        with transaction.atomic():
            assert names() == ["mine"]
        transaction.set_rollback(True)
    assert names() == []


def test_a_first_read_after_writing_is_not_kept() -> None:
    with transaction.atomic():
        Product.objects.create(name="mine")
        assert names() == ["mine"]
        transaction.set_rollback(True)
    assert names() == []


def test_a_function_that_writes_before_it_reads_is_not_kept() -> None:
    """The transaction had not written when the tokens were taken, and is rolled back."""

    def write_and_read() -> list[str]:
        Product.objects.create(name="mine")
        return list(Product.objects.values_list("name", flat=True))

    with transaction.atomic():
        assert nudged.get_or_set("names", write_and_read, depends_on=[Product]) == ["mine"]
        transaction.set_rollback(True)
    assert names() == []


def test_a_transaction_that_has_not_begun_costs_no_statement() -> None:
    """A view with ATOMIC_REQUESTS that finds all it wants in the cache."""
    names()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert names() == []
        with transaction.atomic(savepoint=False):
            assert names() == []
    assert len(queries) == 0


def test_a_transaction_that_only_reads_uses_the_cache_for_one_statement() -> None:
    names()
    with transaction.atomic():
        assert not Product.objects.exists()
        with CaptureQueriesContext(connection) as queries:
            assert names() == []
    assert len(queries) == 1


def test_a_value_is_kept_for_one_statement_more() -> None:
    names()
    nudged.delete("names")
    with CaptureQueriesContext(connection) as queries:
        assert names() == []
    assert len(queries) == 2


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_neither_reads_nor_keeps(level: str, nudge_fake: NudgeFake) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert names() == []
        other = connections["default"].copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("INSERT INTO shop_product (name, price) VALUES ('new', 0)")
        finally:
            other.close()
        nudge_fake.changed(Product)
        assert names() == []
    assert names() == ["new"]


def test_a_transaction_that_is_broken_is_left_to_the_function() -> None:
    names()
    with pytest.raises(DatabaseError), transaction.atomic():
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
        names()


def test_without_autocommit_a_write_is_seen_too() -> None:
    names()
    transaction.set_autocommit(False)
    try:
        Product.objects.create(name="mine")
        assert names() == ["mine"]
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert names() == []


def begin_by_cursor() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    return lambda: connection.cursor().execute("ROLLBACK")


def begin_by_driver() -> Any:
    block = connection.connection.transaction(force_rollback=True)
    block.__enter__()
    return lambda: block.__exit__(None, None, None)


def begin_by_raw_cursor() -> Any:
    connection.connection.cursor().execute("START TRANSACTION")
    return connection.connection.rollback


def begin_by_driver_s_autocommit() -> Any:
    connection.connection.autocommit = False

    def end() -> None:
        connection.connection.rollback()
        connection.connection.autocommit = True

    return end


BEGINNINGS = [begin_by_cursor, begin_by_driver, begin_by_raw_cursor, begin_by_driver_s_autocommit]


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_write_in_a_transaction_that_django_does_not_see_is_not_kept(begin: Any) -> None:
    connection.ensure_connection()
    end = begin()
    assert not connection.in_atomic_block
    Product.objects.create(name="mine")
    assert names() == ["mine"]
    end()
    assert names() == []


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_writer_in_a_transaction_that_django_does_not_see_is_not_served(begin: Any) -> None:
    assert names() == []
    end = begin()
    Product.objects.create(name="mine")
    assert names() == ["mine"]
    end()
    assert names() == []


OLD_SNAPSHOTS = [
    ("BEGIN ISOLATION LEVEL REPEATABLE READ",),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE",),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "BEGIN"),
    ("SET default_transaction_isolation = 'repeatable read'", "BEGIN"),
]


@pytest.mark.parametrize("statements", OLD_SNAPSHOTS, ids=lambda each: each[0])
def test_an_old_snapshot_that_django_does_not_see_neither_reads_nor_keeps(
    statements: tuple[str, ...], nudge_fake: NudgeFake
) -> None:
    with connection.cursor() as cursor:
        for statement in (*statements, "SELECT FROM shop_product"):
            cursor.execute(statement)
    insert_elsewhere("new")
    nudge_fake.changed(Product)
    assert names() == []
    with connection.cursor() as cursor:
        cursor.execute("COMMIT")
    assert names() == ["new"]


def insert_elsewhere(name: str) -> None:
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO shop_product (name, price) VALUES (%s, 0)", [name])
    finally:
        other.close()


def products() -> list[str]:
    return sorted(Product.objects.values_list("name", flat=True))


def computed(function: Any) -> Any:
    return nudged.get_or_set("names", function, depends_on=[Product])


def leave_open() -> list[str]:
    connection.cursor().execute("BEGIN")
    Product.objects.create(name="mine")
    return products()


def roll_back() -> list[str]:
    with transaction.atomic():
        Product.objects.create(name="mine")
        found = products()
        transaction.set_rollback(True)
    return found


def roll_back_by_cursor() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO shop_product (name, price) VALUES ('mine', 0)")
        found = products()
        cursor.execute("ROLLBACK")
    return found


def roll_back_what_a_function_wrote() -> list[str]:
    """No word of the statement tells that it writes."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT add_product()")
        found = products()
        transaction.set_rollback(True)
    return found


@pytest.mark.parametrize(
    "function", [leave_open, roll_back, roll_back_by_cursor, roll_back_what_a_function_wrote]
)
def test_a_function_that_reads_what_it_does_not_commit_is_not_kept(function: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION add_product() RETURNS void LANGUAGE sql AS"
            " $$INSERT INTO shop_product (name, price) VALUES ('mine', 0)$$"
        )
    assert computed(function) == ["mine"]
    connection.connection.rollback()
    assert names() == []


def test_a_function_that_rolls_back_its_caller_s_transaction_is_not_kept() -> None:
    def function() -> list[str]:
        Product.objects.create(name="mine")
        found = products()
        connection.connection.rollback()
        return found

    with transaction.atomic():
        assert computed(function) == ["mine"]
    assert names() == []


def test_a_savepoint_that_is_rolled_back_leaves_a_transaction_that_wrote() -> None:
    names()
    with transaction.atomic():
        with transaction.atomic():
            Product.objects.create(name="mine")
            transaction.set_rollback(True)
        with CaptureQueriesContext(connection) as queries:
            assert names() == []
        assert "shop_product" in queries[-1]["sql"]


def test_a_function_that_commits_what_it_writes_is_kept_until_the_nudge(
    nudge_fake: NudgeFake,
) -> None:
    def function() -> list[str]:
        Product.objects.create(name="mine")
        return products()

    assert computed(function) == ["mine"]
    assert names() == ["mine"]
    nudge_fake.changed(Product)
    insert_elsewhere("new")
    assert names() == ["mine", "new"]


def test_a_function_that_reads_in_its_own_transaction_is_kept() -> None:
    def function() -> list[str]:
        with transaction.atomic():
            return products()

    assert computed(function) == []
    insert_elsewhere("unseen")
    assert names() == []


def test_a_pipeline_is_left_to_the_function() -> None:
    names()
    insert_elsewhere("unseen")
    with connection.connection.pipeline():
        assert names() == ["unseen"]
    assert names() == []


def test_a_temporary_table_hides_the_table_from_its_session_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE shop_product AS TABLE shop_product")
        cursor.execute("INSERT INTO shop_product (id, name, price) VALUES (1, 'mine', 0)")
    assert names() == ["mine"]
    assert "temporary tables that hide others (shop_product)" in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE pg_temp.shop_product")
    assert names() == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS id, 'mine' AS name, 0 AS price INTO TEMP shop_product")
    assert names() == ["mine"]


def test_a_temporary_table_of_its_own_name_forbids_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE mine (id int)")
    names()
    with CaptureQueriesContext(connection) as queries:
        assert names() == []
    assert len(queries) == 0


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_both_drivers_tell_whether_a_transaction_is_open(driver: str, django_postgres: Any) -> None:
    raw = importlib.import_module(driver).connect(django_postgres.dsn)
    cursor = raw.cursor()
    assert status(raw) == IDLE
    cursor.execute("SELECT 1")
    assert status(raw) == INTRANS
    with pytest.raises(Exception, match="division by zero"):
        cursor.execute("SELECT 1/0")
    assert status(raw) not in (IDLE, INTRANS)
    raw.rollback()
    assert status(raw) == IDLE
    raw.close()
    assert status(raw) == UNKNOWN


def test_under_psycopg2_too(django_postgres: Any, tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('hidden')\n")
    settings = {alias: dict(connections.settings[alias]) for alias in ("default", "other")}
    code = PSYCOPG2.format(settings={k: dict(v, OPTIONS={}) for k, v in settings.items()})
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[:-1] == ["psycopg2", "[]", "['mine']", "[]", "0"], done.stderr


PSYCOPG2 = """
from tests import settings as s
s.DATABASES = {settings!r}
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django; django.setup()
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_pgnudge.testing import faked
from tests.fix_nudged import asking_postgres
from tests.reader.test_bypass import names
from tests.shop.models import Product
with faked() as fake, asking_postgres(fake):
    print(connection.Database.__name__, names(), sep="\\n")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        Product.objects.create(name="mine")
        print(names())
        cursor.execute("ROLLBACK")
    print(names())
    with CaptureQueriesContext(connection) as queries:
        names()
    print(len(queries))
"""


@pytest.mark.usefixtures("fresh_threads")
async def test_async_code_under_a_transaction_is_bypassed_too() -> None:
    from asgiref.sync import async_to_sync, sync_to_async

    @nudged(Product)
    async def count() -> int:
        return await Product.objects.acount()

    def in_a_transaction() -> list[int]:
        found = [async_to_sync(count)()]
        with transaction.atomic():
            Product.objects.create(name="mine")
            found.append(async_to_sync(count)())
            transaction.set_rollback(True)
        return [*found, async_to_sync(count)()]

    assert await sync_to_async(in_a_transaction)() == [0, 1, 0]


def test_tables_are_named_as_postgres_finds_them(nudge_fake: NudgeFake) -> None:
    tables = dependencies.DependencyResolver("default")
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA app")
        cursor.execute("ALTER TABLE shop_product SET SCHEMA app")
    with mock.patch.dict(connections.settings["default"]["OPTIONS"], options="-csearch_path=app"):
        found = tables.dependencies([Product])
    assert found is not None
    assert {each.payload for each in found} == {"app.shop_product"}
    caches["default"].clear()


def test_a_composite_key_is_in_the_order_of_its_index(nudge_fake: NudgeFake) -> None:
    from tests.shop.models import Order

    tables = dependencies.DependencyResolver("default")
    found = tables.dependencies([nudged.row(Order, (7, "2026-01-02"))])
    assert found is not None
    assert {each.row for each in found} == {("2026-01-02", 7)}


@pytest.mark.parametrize("each_cache", ["database"], indirect=True)
def test_a_cache_table_is_not_written_inside_a_transaction(
    each_cache: str, nudge_fake: NudgeFake
) -> None:
    """The daemon cannot delete a token that is not committed."""
    nudge_fake.lease()
    with transaction.atomic():
        assert names() == []
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id_if_assigned()")
            assert cursor.fetchone() == (None,)
        other = connections["default"].copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("INSERT INTO shop_product (name, price) VALUES ('new', 0)")
                cursor.execute("DELETE FROM nudged_cache WHERE cache_key LIKE '%:table:%'")
        finally:
            other.close()
    assert names() == ["new"]
    assert names() == ["new"]


@pytest.mark.parametrize("each_cache", ["database"], indirect=True)
@pytest.mark.parametrize("begin", [begin_by_cursor, begin_by_driver_s_autocommit])
def test_a_cache_table_is_not_written_in_a_transaction_that_django_does_not_see(
    begin: Any, each_cache: str, nudge_fake: NudgeFake
) -> None:
    nudge_fake.lease()
    end = begin()
    assert names() == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id_if_assigned()")
        assert cursor.fetchone() == (None,)
    end()
