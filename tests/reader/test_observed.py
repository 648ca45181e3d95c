"""`@nudged()` without dependencies: a value depends on what PostgreSQL says it read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DataError, connection, transaction
from django.utils.functional import SimpleLazyObject

from django_pgnudge import nudged
from django_pgnudge.reader.state import reader_state
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions")


FAMILY = "default tests.reader.test_observed.Observed._compute"


class Observed:
    """A value without dependencies; ``calls`` is how often it was computed."""

    def __init__(self, function: Callable[[], Any], key: str = "value") -> None:
        self.calls = 0
        self.key = key
        self._function = function

    def __call__(self) -> Any:
        return nudged.get_or_set(self.key, self._compute)

    def _compute(self) -> Any:
        self.calls += 1
        return self._function()

    def is_kept(self) -> bool:
        """Whether it is served without being computed, after two calls that may learn."""
        self()
        self()
        before = self.calls
        self()
        return self.calls == before


def names() -> list[str]:
    return sorted(Product.objects.values_list("name", flat=True))


def execute(sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else None


def test_a_value_depends_on_what_it_read(nudge_fake: NudgeFake) -> None:
    value = Observed(names)
    Product.objects.create(name="one")
    assert value() == ["one"]  # what it reads is learned
    assert value() == ["one"]  # and now it is kept
    assert value() == ["one"]
    assert value.calls == 2
    Product.objects.create(name="two")
    nudge_fake.changed(Category)
    assert value() == ["one"]
    nudge_fake.changed(Product)
    assert value() == ["one", "two"]
    assert value.calls == 3
    assert value.is_kept()


def test_what_a_function_reads_is_known_under_any_key() -> None:
    first = Observed(names, "first")
    assert first.is_kept()
    for number in range(3):
        other = Observed(names, f"other {number}")
        other()
        other()
        assert other.calls == 1


def test_a_value_may_consist_of_others(nudge_fake: NudgeFake) -> None:
    inner = Observed(names, "inner")
    outer = Observed(lambda: [*inner(), "more"], "outer")
    assert inner.is_kept()
    assert outer.is_kept()
    nudge_fake.changed(Category)
    assert outer.is_kept()
    before = outer.calls
    nudge_fake.changed(Product)
    outer()
    assert outer.calls == before + 1


VIEWS = """
    CREATE VIEW cheap AS SELECT * FROM shop_product WHERE price < 10;
    CREATE VIEW cheaper AS SELECT * FROM cheap WHERE price < 5;
    CREATE FUNCTION in_sql() RETURNS bigint LANGUAGE sql STABLE AS
        'SELECT count(*) FROM shop_category';
    CREATE FUNCTION in_plpgsql() RETURNS bigint LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT count(*) FROM shop_category); END';
    CREATE FUNCTION dynamic(name text) RETURNS bigint LANGUAGE plpgsql STABLE AS
        'DECLARE found bigint; BEGIN EXECUTE ''SELECT count(*) FROM '' || name INTO found;
         RETURN found; END';
    CREATE TABLE measured (at int, value int) PARTITION BY RANGE (at);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM (0) TO (10);
    CREATE TABLE measured_2 PARTITION OF measured FOR VALUES FROM (10) TO (20);
    CREATE TABLE vehicle (id int);
    CREATE TABLE car (doors int) INHERITS (vehicle);
    CREATE SCHEMA elsewhere;
    CREATE TABLE elsewhere.thing (id int);
"""

READS: dict[str, tuple[str, set[str]]] = {
    "a table": ("SELECT count(*) FROM shop_product", {"public.shop_product"}),
    "a view": ("SELECT count(*) FROM cheap", {"public.shop_product"}),
    "a view over a view": ("SELECT count(*) FROM cheaper", {"public.shop_product"}),
    "a function in SQL": ("SELECT in_sql()", {"public.shop_category"}),
    "a function in PL/pgSQL": ("SELECT in_plpgsql()", {"public.shop_category"}),
    "dynamic SQL": ("SELECT dynamic('shop_review')", {"public.shop_review"}),
    "a partitioned table": ("SELECT count(*) FROM measured", {"public.measured"}),
    "one partition": ("SELECT count(*) FROM measured_1", {"public.measured_1"}),
    "what is inherited": ("SELECT count(*) FROM vehicle", {"public.vehicle"}),
    "another schema": ("SELECT count(*) FROM elsewhere.thing", {"elsewhere.thing"}),
    "a constant false": ("SELECT 1 FROM shop_product WHERE false", {"public.shop_product"}),
    "a join and a CTE": (
        "WITH c AS (SELECT * FROM shop_category) SELECT 1 FROM c, shop_product",
        {"public.shop_category", "public.shop_product"},
    ),
}


@pytest.mark.parametrize("shape", READS)
def test_everything_that_postgres_touches_is_a_dependency(
    nudge_fake: NudgeFake, shape: str
) -> None:
    execute(VIEWS)
    sql, tables = READS[shape]
    value = Observed(lambda: execute(sql))
    assert value.is_kept()
    assert reader_state("default").learned.of(FAMILY) == tables
    for table in ("public.shop_place", *tables):
        assert value.is_kept()
        before = value.calls
        nudge_fake.changed(table)
        value()
        assert (value.calls > before) == (table in tables)


def test_a_function_may_open_transactions(nudge_fake: NudgeFake) -> None:
    def read() -> list[str]:
        before = names()
        with transaction.atomic(durable=True):
            after = list(Category.objects.values_list("name", flat=True))
        return [*before, *after]

    assert Observed(read).is_kept()
    assert reader_state("default").learned.of(FAMILY) == {
        "public.shop_product",
        "public.shop_category",
    }


def test_what_a_function_writes_is_written_as_it_would_be_alone() -> None:
    def write() -> int:
        Product.objects.count()
        Product.objects.create(name="new")
        raise KeyError

    with pytest.raises(KeyError):
        Observed(write)()
    assert names() == ["new"]


@pytest.mark.parametrize(
    "body",
    [
        (
            "BEGIN INSERT INTO shop_category (name) VALUES ('x'); RETURN 1;"
            " EXCEPTION WHEN OTHERS THEN RETURN 0; END"
        ),
        "BEGIN INSERT INTO shop_category (name) VALUES ('x'); RETURN 1; END",
    ],
)
def test_what_a_function_of_the_server_writes_is_written_as_it_would_be_alone(body: str) -> None:
    execute(f"CREATE FUNCTION logs() RETURNS int LANGUAGE plpgsql AS $${body}$$")

    def read() -> Any:
        Product.objects.count()
        found = execute("SELECT logs()")
        with suppress(DataError):
            execute("SELECT 1 / 0")
        return found

    value = Observed(read)
    assert value() == [(1,)]
    assert Category.objects.count() == 1
    assert not value.is_kept()


def test_a_function_may_catch_errors_of_the_database(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> int:
        Product.objects.count()
        try:
            execute("SELECT * FROM nothing")
        except Exception:
            return Product.objects.count()
        raise AssertionError

    value = Observed(read)
    assert not value.is_kept()
    assert value() == 0
    assert "a statement failed" in caplog.text


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT writes()"])
def test_rows_of_a_server_side_cursor_outlive_a_statement_that_fails_or_is_refused(
    statement: str,
) -> None:
    execute(
        "CREATE OR REPLACE FUNCTION writes() RETURNS bigint LANGUAGE sql AS"
        " 'INSERT INTO shop_category (name) VALUES (''x'') RETURNING id'"
    )
    Product.objects.bulk_create(Product(name=f"{number}") for number in range(3))

    def function() -> list[str]:
        found = []
        for each in Product.objects.order_by("pk").iterator(chunk_size=1):
            with suppress(DataError):
                execute(statement)
            found.append(each.name)
        return found

    assert Observed(function)() == ["0", "1", "2"]
    assert Category.objects.count() == (3 if "writes" in statement else 0)


def test_a_function_may_catch_errors_of_rows_that_it_fetches() -> None:
    def function() -> int:
        with suppress(DataError), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT 1 / (2 - n) FROM generate_series(1, 3) AS n")
            cursor.fetchmany(1)
            cursor.fetchmany(1)
        return Product.objects.count()

    assert Observed(function)() == 0


def test_a_value_that_queries_while_it_reads_a_server_side_cursor_is_kept(
    nudge_fake: NudgeFake,
) -> None:
    Product.objects.create(name="one")

    def function() -> list[tuple[str, int]]:
        rows = Product.objects.iterator(chunk_size=1)
        return [(each.name, Category.objects.count()) for each in rows]

    value = Observed(function)
    assert value.is_kept()
    for model in (Product, Category):
        nudge_fake.changed(model)
        before = value.calls
        assert value() == [("one", 0)]
        assert value.calls == before + 1


TELLING = """
    CREATE VIEW late AS SELECT * FROM shop_product WHERE now() > '2000-01-01';
    CREATE FUNCTION told() RETURNS float8 LANGUAGE sql AS 'SELECT random()';
    CREATE FUNCTION größe() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';
    CREATE FUNCTION step(timestamptz, bigint) RETURNS timestamptz LANGUAGE sql STABLE AS
        'SELECT now()';
    CREATE AGGREGATE latest(bigint) (sfunc = step, stype = timestamptz);
    CREATE FUNCTION in_a_string() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
        DECLARE found timestamptz;
        BEGIN EXECUTE 'SELECT now() FROM shop_product' INTO found; RETURN found; END $$;
    CREATE FUNCTION catching() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
        DECLARE found bigint;
        BEGIN
            found := (SELECT count(*) FROM shop_category);
            RETURN 1 / 0;
        EXCEPTION WHEN OTHERS THEN RETURN found;
        END $$;
    CREATE FUNCTION in_a_worker(bigint) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS
        'BEGIN RETURN (SELECT count(*) FROM shop_category); END';
    CREATE MATERIALIZED VIEW stored AS SELECT * FROM shop_product;
"""

REASONS = {
    "SELECT now()": "the clock (now)",
    "SELECT 1 WHERE CURRENT_DATE > '2000-01-01'": "the clock (current_date)",
    "SELECT count(*) FROM shop_product TABLESAMPLE SYSTEM (1)": "random values (TABLESAMPLE)",
    "SELECT nextval('shop_product_id_seq')": "a sequence (nextval)",
    "SELECT current_setting('work_mem')": "its session (current_setting)",
    "SELECT count(*) FROM pg_class": "the server's own",
    "SELECT 1": "it read nothing in the database",
    "SELECT last_value FROM shop_product_id_seq": "a sequence",
    "INSERT INTO shop_category (name) VALUES ('x')": "it ran INSERT",
    "WITH x AS (DELETE FROM shop_category RETURNING 1) SELECT * FROM x": "did not only read",
    "SELECT * FROM shop_product FOR UPDATE": "did not only read",
    "SELECT * FROM late": "a view that reads the clock (now)",
    "SHOW work_mem": "it ran SHOW",
    "EXPLAIN SELECT * FROM shop_product": "it ran EXPLAIN",
    "SELECT * FROM shop_product WHERE 'today 10:00'::timestamp > '2000-01-01'": "the clock ('today",
    "SELECT lo_create(0)": "the state of the server (lo_create)",
    "SELECT größe() FROM shop_product": "the function größe reads the clock (now)",
    "SELECT latest(id) FROM shop_product": "the function latest reads the clock (now)",
    "SELECT in_a_string()": "the function in_a_string reads the clock (now)",
    "SELECT catching() FROM shop_product": "the function catching catches errors",
    "SELECT in_a_worker(id) FROM shop_product": "what it reads in a worker is not seen",
    "SELECT told()": "the function told reads random values (random)",
    "SELECT * FROM stored": "whose changes the stream does not carry",
}


@pytest.mark.parametrize("sql", REASONS)
def test_what_depends_on_more_than_rows_is_computed_and_said(
    sql: str, nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    execute(TELLING)
    reader_state("default").coverages["fake"] = frozenset(
        {"public.shop_product", "public.shop_category"}
    )
    value = Observed(lambda: execute(sql))
    assert not value.is_kept()
    assert REASONS[sql] in caplog.text
    assert not connection.in_atomic_block
    assert connection.connection.info.transaction_status == 0


def on_an_instance() -> Category:
    category = Category(name="not saved")
    category.products = Product.objects.all()  # type: ignore[attr-defined]
    return category


def on_the_instances_of_a_queryset() -> Any:
    found = Category.objects.all()
    for each in found:
        each.products = Product.objects.filter(categories=each)  # type: ignore[attr-defined]
    return found


def on_what_was_prefetched() -> Any:
    found = list(Category.objects.prefetch_related("product_set"))
    for each in found:
        for product in each.product_set.all():
            like_it = Product.objects.filter(name=product.name)
            product.like_it = like_it  # type: ignore[attr-defined]
    return found


LAZY: dict[str, Callable[[], Any]] = {
    "a queryset": Product.objects.all,
    "a queryset in a list": lambda: [Category.objects.count(), Product.objects.all()],
    "a lazy object in a dictionary": lambda: {
        "names": SimpleLazyObject(names),
        "rows": Category.objects.count(),
    },
    "a queryset on an instance": on_an_instance,
    "querysets on the instances of a queryset": on_the_instances_of_a_queryset,
    "querysets on instances that were prefetched": on_what_was_prefetched,
    "a raw queryset": lambda: Product.objects.raw("SELECT * FROM shop_product"),
}


@pytest.mark.parametrize("shape", LAZY)
def test_what_is_read_when_a_result_is_looked_at_counts_too(
    shape: str, nudge_fake: NudgeFake
) -> None:
    Category.objects.create(name="one").product_set.add(Product.objects.create(name="one"))
    value = Observed(LAZY[shape])
    kept = value.is_kept()
    before = value.calls
    nudge_fake.changed(Product)
    value()
    assert value.calls == before + 1
    assert kept == (shape != "a raw queryset")


def test_a_generator_is_computed_each_time() -> None:
    value = Observed(lambda: (each for each in Product.objects.all()))
    assert not value.is_kept()


def test_an_instance_may_be_part_of_itself() -> None:
    def read() -> Any:
        category = Category.objects.get()
        category.me = [category, Category.objects.all()]  # type: ignore[attr-defined]
        return category

    Category.objects.create(name="one")
    assert Observed(read).is_kept()


def test_a_function_that_may_run_in_a_worker_and_reads_nothing() -> None:
    execute(
        "CREATE FUNCTION doubled(bigint) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS"
        " 'SELECT $1 * 2'"
    )
    assert Observed(lambda: execute("SELECT doubled(id) FROM shop_product")).is_kept()
