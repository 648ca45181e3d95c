"""Observed values in every state a session can be in: transactions, threads, tasks, failures.

Each is right, or computed and said why.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, connections, transaction
from psycopg import IsolationLevel

from django_pgnudge import nudged
from django_pgnudge.reader.observation import active
from django_pgnudge.reader.state import reader_state
from tests.reader.test_observed import FAMILY, Observed, execute, names
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert not active
    assert not {"set_autocommit", "commit", "rollback"} & vars(connection).keys()


COROUTINE = f"default {__name__}.Coroutine.__call__.<locals>.compute"


def learned() -> set[str]:
    tables = reader_state("default").learned
    return {each for family in (FAMILY, COROUTINE) for each in tables.of(family) or ()}


def test_what_a_savepoint_read_before_it_was_rolled_back_counts() -> None:
    def read() -> int:
        with transaction.atomic():
            point = transaction.savepoint()
            found = Product.objects.count()
            transaction.savepoint_rollback(point)
        return found

    assert Observed(read).is_kept()
    assert learned() == {"public.shop_product"}


def test_an_atomic_block_that_fails_inside_another_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> int:
        with transaction.atomic():
            found = Product.objects.count()
            try:
                with transaction.atomic():
                    execute("SELECT 1/0")
            except DatabaseError:
                return found
        raise AssertionError

    assert not Observed(read).is_kept()
    assert "a statement failed" in caplog.text


def test_an_atomic_block_that_is_left_by_an_exception(nudge_fake: NudgeFake) -> None:
    def read() -> int:
        try:
            with transaction.atomic():
                found = Product.objects.count()
                raise KeyError
        except KeyError:
            return found

    assert Observed(read).is_kept()
    assert learned() == {"public.shop_product"}


def test_within_a_larger_transaction_all_that_it_read_counts(nudge_fake: NudgeFake) -> None:
    """As with ATOMIC_REQUESTS."""
    value = Observed(names)
    with transaction.atomic():
        Category.objects.count()
        assert value.is_kept()
        assert learned() == {"public.shop_product", "public.shop_category"}
    before = value.calls
    nudge_fake.changed(Product)
    value()
    assert value.calls == before + 1
    assert not connection.in_atomic_block


def test_a_transaction_begun_by_hand() -> None:
    def read() -> int:
        execute("BEGIN")
        found = Product.objects.count()
        execute("COMMIT")
        return found

    assert Observed(read).is_kept()
    assert learned() == {"public.shop_product"}


def test_rows_from_a_server_side_cursor(nudge_fake: NudgeFake) -> None:
    Product.objects.bulk_create(Product(name=str(n)) for n in range(5))
    value = Observed(lambda: [each.name for each in Product.objects.iterator(chunk_size=2)])
    assert value.is_kept()
    assert learned() == {"public.shop_product"}


def test_many_queries() -> None:
    value = Observed(lambda: [Product.objects.count() for _ in range(300)])
    assert value.is_kept()


def test_a_function_that_calls_itself() -> None:
    def down(number: int) -> list[int]:
        found = Product.objects.count() if number % 2 else Category.objects.count()
        if number == 0:
            return [found]
        return [found, *nudged.get_or_set(f"down {number - 1}", lambda: down(number - 1))]

    value = Observed(lambda: down(3))
    for _ in range(6):
        value()
    before = value.calls
    assert value() == [0, 0, 0, 0]
    assert value.calls == before


def test_what_a_helper_thread_reads_is_not_seen_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def in_a_thread() -> list[str]:
        try:
            return names()
        finally:
            connections.close_all()

    def read() -> list[str]:
        Category.objects.count()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(in_a_thread).result()

    assert not Observed(read).is_kept()
    assert "a thread that serves no request queried meanwhile" in caplog.text


def test_a_thread_may_compute_for_itself() -> None:
    """What the package asks in it is no work for another."""

    def read() -> int:
        with transaction.atomic():
            return Product.objects.count()

    kept: list[bool] = []

    def in_a_thread() -> None:
        try:
            kept.append(Observed(read).is_kept())
        finally:
            connections.close_all()

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert kept == [True]


def test_what_a_thread_with_the_context_reads_is_seen() -> None:
    def in_a_thread() -> list[str]:
        try:
            return names()
        finally:
            connections.close_all()

    def read() -> list[str]:
        found: list[list[str]] = []
        context = copy_context()
        thread = threading.Thread(target=lambda: found.append(context.run(in_a_thread)))
        thread.start()
        thread.join()
        return found[0]

    assert Observed(read).is_kept()
    assert learned() == {"public.shop_product"}


def test_a_statement_that_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> int:
        try:
            execute("SET statement_timeout = 1")
            execute("SELECT count(*) FROM generate_series(1, 10000000), shop_product")
        except DatabaseError:
            pass
        finally:
            execute("SET statement_timeout = 0")
        return Product.objects.count()

    value = Observed(read)
    Product.objects.create(name="one")
    assert not value.is_kept()
    assert value() == 1


def test_the_session_may_be_idle_for_long(nudge_fake: NudgeFake) -> None:
    """A transaction that waits while the function does something else is not ended for that."""
    execute("SET idle_in_transaction_session_timeout = 1")

    def read() -> list[int]:
        first = Product.objects.count()
        threading.Event().wait(0.05)  # something else
        return [first, Product.objects.count()]

    try:
        assert Observed(read).is_kept()
    finally:
        execute("SET idle_in_transaction_session_timeout = 0")


def test_a_function_may_close_its_connection() -> None:
    def read() -> int:
        Category.objects.count()
        connection.close()
        return Product.objects.count()

    value = Observed(read)
    assert not value.is_kept()
    assert value() == 0


@pytest.fixture
def reader() -> Iterator[str]:
    execute("CREATE ROLE observed_reader")
    execute("GRANT SELECT ON shop_product TO observed_reader")
    yield "observed_reader"
    execute("RESET SESSION AUTHORIZATION")
    execute("DROP OWNED BY observed_reader")
    execute("DROP ROLE observed_reader")


def test_row_security_may_show_others_other_rows(
    reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute("ALTER TABLE shop_product ENABLE ROW LEVEL SECURITY")
    execute("CREATE POLICY few ON shop_product USING (name <> current_setting('work_mem'))")
    assert Observed(names).is_kept()  # the owner sees all
    execute(f"SET SESSION AUTHORIZATION {reader}")
    assert not Observed(names, "as another").is_kept()
    assert "row security" in caplog.text


def test_a_temporary_table_of_the_session(caplog: pytest.LogCaptureFixture) -> None:
    execute("CREATE TEMPORARY TABLE mine (id int)")
    try:
        assert not Observed(lambda: execute("SELECT count(*) FROM mine")).is_kept()
        assert "a temporary table" in caplog.text
    finally:
        execute("DROP TABLE mine")


def test_a_role_that_may_not_ask_for_locks(reader: str, caplog: pytest.LogCaptureFixture) -> None:
    execute("REVOKE EXECUTE ON FUNCTION pg_lock_status() FROM PUBLIC")
    execute(f"SET SESSION AUTHORIZATION {reader}")
    value = Observed(names)
    assert not value.is_kept()
    with transaction.atomic():
        assert value() == []
    assert "pg_lock_status()" in caplog.text


def test_an_exception_of_the_function_is_its_own() -> None:
    def read() -> None:
        Product.objects.count()
        raise KeyError("mine")

    value = Observed(read)
    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            value()
    assert connection.connection.info.transaction_status == 0


class Coroutine:
    """An observed coroutine function."""

    def __init__(self, function: Any) -> None:
        self.calls = 0
        self._function = function

    async def __call__(self) -> Any:
        async def compute() -> Any:
            self.calls += 1
            return await self._function()

        return await nudged.aget_or_set("value", compute)

    async def is_kept(self) -> bool:
        await self()
        await self()
        before = self.calls
        await self()
        return self.calls == before


@pytest.mark.usefixtures("fresh_threads")
async def test_a_task_depends_on_what_its_statements_read(nudge_fake: NudgeFake) -> None:
    async def read() -> list[str]:
        assert await Category.objects.acount() == 0
        return [name async for name in Product.objects.values_list("name", flat=True)]

    value = Coroutine(read)
    assert await value.is_kept()
    assert learned() == {"public.shop_product", "public.shop_category"}
    await sync_to_async(nudge_fake.changed)(Category)
    before = value.calls
    await value()
    assert value.calls == before + 1


@pytest.mark.usefixtures("fresh_threads")
async def test_tasks_that_share_a_connection_are_told_apart() -> None:
    async def products() -> int:
        await asyncio.sleep(0)
        return await Product.objects.acount()

    async def categories() -> int:
        await asyncio.sleep(0)
        return await Category.objects.acount()

    for _ in range(3):
        await asyncio.gather(
            nudged.aget_or_set("products", products), nudged.aget_or_set("categories", categories)
        )
    tables = reader_state("default").learned
    here = f"default {__name__}.test_tasks_that_share_a_connection_are_told_apart.<locals>"
    assert tables.of(f"{here}.products") == {"public.shop_product"}
    assert tables.of(f"{here}.categories") == {"public.shop_category"}


@pytest.mark.usefixtures("fresh_threads")
async def test_a_task_that_writes_or_opens_transactions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def write() -> int:
        with transaction.atomic():
            found = Product.objects.count()
            Product.objects.create(name="new")
        return found

    value = Coroutine(sync_to_async(write))
    assert not await value.is_kept()
    assert await value() == 3


@pytest.mark.usefixtures("fresh_threads")
async def test_a_task_that_is_cancelled_leaves_nothing(nudge_fake: NudgeFake) -> None:
    began = asyncio.Event()

    async def read() -> int:
        found = await Product.objects.acount()
        began.set()
        await asyncio.Event().wait()
        return found

    task = asyncio.create_task(Coroutine(read)())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sync_to_async(lambda: connection.connection.info.transaction_status)() == 0


@pytest.mark.usefixtures("fresh_threads")
async def test_a_task_that_returns_a_lazy_queryset(nudge_fake: NudgeFake) -> None:
    async def read() -> Any:
        await Category.objects.acount()
        return Product.objects.all()

    value = Coroutine(read)
    assert await value.is_kept()
    assert learned() == {"public.shop_product", "public.shop_category"}


def fails_first_in_a_transaction() -> None:
    with transaction.atomic():
        with suppress(DatabaseError):
            execute("SELECT 1/0")
        Product.objects.count()


def test_the_transaction_of_a_function_is_its_own_from_the_first_statement() -> None:
    """A driver begins it only before the first statement."""
    with pytest.raises(DatabaseError, match="current transaction is aborted"):
        fails_first_in_a_transaction()
    with pytest.raises(DatabaseError, match="current transaction is aborted"):
        Observed(fails_first_in_a_transaction)()


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_isolation_of_a_function_is_its_own(
    by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> tuple[Any, ...]:
        if not by_hand:
            with transaction.atomic():
                return Product.objects.count(), execute("SELECT isolation()")
        transaction.set_autocommit(False)
        try:
            return Product.objects.count(), execute("SELECT isolation()")
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    execute(
        "CREATE FUNCTION isolation() RETURNS text LANGUAGE sql AS"
        " $$SELECT current_setting('transaction_isolation')$$"
    )
    connection.close()
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(
        connection.settings_dict,
        "OPTIONS",
        {**options, "isolation_level": IsolationLevel.REPEATABLE_READ},
    )
    try:
        Product.objects.count()
        assert Observed(read)() == read() == (0, [("repeatable read",)])
    finally:
        connection.close()


def test_rows_from_a_server_side_cursor_outlive_a_statement_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> list[str]:
        found = []
        for each in Product.objects.order_by("name").iterator(chunk_size=2):
            found.append(each.name)
            with suppress(DatabaseError):
                execute("SELECT 1/0")
        return found

    Product.objects.bulk_create(Product(name=str(n)) for n in range(5))
    assert Observed(read)() == ["0", "1", "2", "3", "4"]
    assert "a statement failed" in caplog.text


def by_copy(cursor: Any) -> None:
    with cursor.copy("COPY shop_category (name) FROM STDIN") as copy:
        copy.write("new\n")


PAST_WRAPPERS: dict[str, Any] = {
    "callproc": lambda cursor: cursor.callproc("writes"),
    "copy": by_copy,
    "stream": lambda cursor: list(cursor.stream("SELECT writes()")),
}


@pytest.mark.parametrize("how", PAST_WRAPPERS)
def test_what_a_cursor_hands_to_the_driver_is_done_as_it_would_be_alone(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def read() -> int:
        found = Product.objects.count()
        with connection.cursor() as cursor:
            PAST_WRAPPERS[how](cursor)
        return found

    execute(
        "CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS"
        " $$INSERT INTO shop_category (name) VALUES ('new') RETURNING 1$$"
    )
    assert not Observed(read).is_kept()
    assert Category.objects.count() == 3
    assert f"it called {how}() of a cursor" in caplog.text


def test_a_new_connection_is_used_past_the_wrappers_first() -> None:
    def read() -> int:
        with connection.cursor() as cursor, cursor.copy("COPY shop_category TO STDOUT") as copy:
            list(copy)
        return Product.objects.count()

    value = Observed(read)
    for calls in range(3):
        connection.close()
        value()
        assert value.calls == calls + 1


@pytest.mark.usefixtures("fresh_threads")
async def test_what_a_task_hands_to_the_driver_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def copied() -> None:
        with connection.cursor() as cursor:
            by_copy(cursor)

    async def read() -> int:
        await sync_to_async(copied)()
        return await Product.objects.acount()

    assert not await Coroutine(read).is_kept()
    assert "it called copy() of a cursor" in caplog.text


def test_a_signal_during_a_statement_leaves_the_session_as_it_would_alone() -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    def read() -> int:
        Product.objects.count()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            execute("SELECT slowly() FROM shop_category")
        return Product.objects.count()

    execute("CREATE FUNCTION slowly() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(10)'")
    Category.objects.create(name="one")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert Observed(read)() == 0
    finally:
        signal.signal(signal.SIGALRM, before)
    assert connection.connection.info.transaction_status == 0


def test_a_statement_of_the_driver_fails(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> int:
        Product.objects.count()
        with suppress(psycopg.Error), connection.connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
        return Product.objects.count()

    value = Observed(read)
    assert value() == 0
    assert not value.is_kept()
    assert "a statement failed" in caplog.text
    assert connection.connection.info.transaction_status == 0


@pytest.mark.parametrize("in_the_loop", [False, True])
def test_rows_of_a_server_side_cursor_that_are_read_when_a_transaction_begins(
    in_the_loop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What a function reads for later rows is read at COMMIT, when it is too late to ask."""

    def begin() -> None:
        with transaction.atomic():
            pass

    def read() -> list[str]:
        found = []
        for each in Product.objects.order_by("name").iterator(chunk_size=2):
            found.append(each.name)
            if in_the_loop:
                begin()
        begin()
        return found

    Product.objects.bulk_create(Product(name=str(n)) for n in range(5))
    value = Observed(read)
    assert value.is_kept() != in_the_loop
    assert value() == ["0", "1", "2", "3", "4"]
    assert ("while it read from a server-side cursor" in caplog.text) == in_the_loop
