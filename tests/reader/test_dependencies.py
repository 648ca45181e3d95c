"""dependencies and rowkeys: a value stands on what the daemon names the same."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import models

from django_pgnudge import nudged
from django_pgnudge.errors import ConfigError
from django_pgnudge.log import forget_logged
from django_pgnudge.reader.dependencies import DependencyResolver, Row
from django_pgnudge.reader.keys import Dependency
from django_pgnudge.reader.row_keys import as_key_value, assumed_column
from django_pgnudge.reader.state import reader_state
from django_pgnudge.testing import NudgeFake
from tests.fix_nudged import asking_postgres
from tests.shop.models import (
    Bistro,
    CheapProduct,
    Coupon,
    Day,
    Flag,
    Franchise,
    Item,
    Line,
    Moment,
    Place,
    Product,
    Rate,
    Restaurant,
    Token,
)

UUID = uuid.UUID(int=0xA1)


@pytest.fixture
def tables() -> DependencyResolver:
    made = DependencyResolver("default")
    made.trust_models()
    return made


def meaning(tables: DependencyResolver, entry: Any) -> set[Dependency]:
    return set(tables.dependencies([entry]) or ())


@pytest.mark.parametrize(
    ("entry", "payloads"),
    [
        (Product, {"public.shop_product"}),
        (CheapProduct, {"public.shop_product"}),
        ("shop.Product", {"public.shop_product"}),
        ("shop.Product.categories", {"public.shop_product_categories"}),
        (Item, {"stock.item"}),
        ("legacy.price_list", {"legacy.price_list"}),
        ("prices", {"prices"}),
        (Bistro, {"public.shop_bistro", "public.shop_restaurant", "public.shop_place"}),
    ],
)
def test_tables_have_the_stream_s_names(
    tables: DependencyResolver, entry: Any, payloads: set[str]
) -> None:
    assert meaning(tables, entry) == {Dependency(payload) for payload in payloads}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (Row(Product, 7), {("public.shop_product", (7,))}),
        (Row("shop.Product", "7"), {("public.shop_product", (7,))}),
        (Product(pk=7), {("public.shop_product", (7,))}),
        (Row("legacy.price_list", "A"), {("legacy.price_list", ("A",))}),
        (Row(Restaurant, 3), {("public.shop_restaurant", (3,)), ("public.shop_place", (3,))}),
        (Row(Franchise, "X"), {("public.shop_franchise", ("X",)), ("public.shop_place", None)}),
        (Row(Line, (1, 2)), {("public.shop_line", (1, 2))}),
        (Row(Coupon, "ÄÖ 1"), {("public.shop_coupon", ("ÄÖ 1",))}),
        (Row(Flag, True), {("public.shop_flag", (True,))}),
        (Row(Day, dt.date(2026, 1, 2)), {("public.shop_day", ("2026-01-02",))}),
        (Row(Rate, Decimal("1.5")), {("public.shop_rate", ("1.50",))}),
        (Row(Rate, Decimal("-0")), {("public.shop_rate", ("0.00",))}),
        (Row(Token, UUID.hex.upper()), {("public.shop_token", (str(UUID),))}),
        (Row(Moment, "2026-01-01T00:00Z"), {("public.shop_moment", ("2026-01-01 00:00:00+00",))}),
    ],
)  # fmt: skip
def test_rows_have_the_stream_s_keys(tables: DependencyResolver, entry: Any, found: Any) -> None:
    assert {(each.payload, each.row) for each in meaning(tables, entry)} == found


@pytest.mark.parametrize(
    ("entry", "payload"),
    [
        (Row(Moment, dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=1)))),
         "public.shop_moment"),
        (Row(Rate, Decimal("1.505")), "public.shop_rate"),
        (Row(Product, 1 << 70), "public.shop_product"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_certain_depends_on_the_table(
    tables: DependencyResolver, entry: Any, payload: str
) -> None:
    assert meaning(tables, entry) == {Dependency(payload)}


def test_it_is_said_once_that_rows_are_not_told_apart(
    tables: DependencyResolver, caplog: pytest.LogCaptureFixture
) -> None:
    forget_logged()
    with caplog.at_level("INFO", "django_pgnudge.nudged"):
        for value in ("1.505", "1.515"):
            meaning(tables, Row(Rate, Decimal(value)))
    assert caplog.text.count("rows of public.shop_rate cannot be told apart") == 1


@pytest.mark.parametrize(
    "entry",
    [
        Row(Product, "seven"),
        Row(Product, (1, 2)),
        Row(Line, 1),
        Row(Rate, Decimal("NaN")),
        Row("legacy.price_list", 1.5),
        Product(),
        ...,
    ],
    ids=repr,
)
def test_what_can_be_no_value_is_refused(tables: DependencyResolver, entry: Any) -> None:
    with pytest.raises(ConfigError, match="nudged"):
        tables.dependencies([entry])


def test_without_a_database_a_column_of_another_type_or_collation_is_not_certain() -> None:
    class Odd(models.CharField):
        def db_type(self, connection: Any) -> str:
            return "citext"

    for field in (Odd(max_length=9), models.CharField(max_length=9, db_collation="ci")):
        field.set_attributes_from_name("code")
        assert as_key_value(field, "A", assumed_column(field), "default") is None


def test_a_key_is_given_and_not_an_object() -> None:
    for wrong in (None, Product(pk=1)):
        with pytest.raises(ConfigError, match="primary key"):
            nudged.row(Product, wrong)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "pk"),
    [
        (Product, 7), (Coupon, "ä'\"\\ x"), (Day, dt.date(33, 1, 2)), (Rate, Decimal("-1.5")),
        (Token, uuid.uuid4()), (Place, -1),
    ],
)  # fmt: skip
def test_postgres_writes_keys_as_they_are_written_here(
    tables: DependencyResolver, model: type[models.Model], pk: Any
) -> None:
    from django.db import connection

    model._default_manager.create(pk=pk)
    (dependency,) = meaning(tables, Row(model, pk))
    assert dependency.row is not None
    assert model._meta.pk is not None
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{model._meta.pk.column}"::text FROM "{model._meta.db_table}"')
        assert cursor.fetchall() == [(str(dependency.row[0]),)]


def test_while_postgres_does_not_answer_nothing_is_named() -> None:
    assert DependencyResolver("default").dependencies([Product]) is None


def test_in_an_epoch_that_is_new_to_a_process_it_reads_the_tables_again(
    django_postgres: Any, nudge_fake: NudgeFake
) -> None:
    """A row named by a primary key that the daemon has seen replaced would never be ended."""
    with asking_postgres(nudge_fake):
        row = nudged.row(Product, 7)

        def read() -> Any:
            return nudged.get_or_set("row", lambda: None, depends_on=[row])

        def stands_on() -> set[Any]:
            return {each.row for each in reader_state("default").tables.dependencies([row]) or ()}

        read()
        assert stands_on() == {(7,)}
        django_postgres.execute(
            "ALTER TABLE shop_product DROP CONSTRAINT shop_product_pkey CASCADE,"
            " ADD PRIMARY KEY (name)"
        )
        read()
        assert stands_on() == {(7,)}, "nothing has told it so"
        nudge_fake.resync()
        read()
        assert stands_on() == {None}
