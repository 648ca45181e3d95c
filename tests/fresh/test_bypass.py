"""bypass: a transaction whose view is not everybody's is served nothing and keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged
from django_pgnudge.fresh import bypass, dependencies, driving
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def committed(django_postgres: Any, nudge_fake: NudgeFake) -> Iterator[None]:
    with (
        mock.patch.object(driving, "may_use_cache", bypass.may_use_cache),
        mock.patch.object(driving, "may_keep", bypass.may_keep),
    ):
        yield


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


def test_a_transaction_that_only_reads_uses_the_cache_for_one_statement() -> None:
    names()
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert names() == []
    assert len(queries) == 1


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
    tables = dependencies.Tables("default")
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

    tables = dependencies.Tables("default")
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
