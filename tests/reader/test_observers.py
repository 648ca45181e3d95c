"""OBSERVE: dependencies that are named are compared with what PostgreSQL says was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged
from django_pgnudge.errors import UndeclaredError
from django_pgnudge.reader import observers
from tests.reader.test_observed import Observed, execute, names
from tests.shop.models import Category, Place, Product, Restaurant

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions")


@pytest.fixture
def observe(settings: Any) -> Any:
    def use(how: Any) -> None:
        settings.PGNUDGE = {"NUDGED": {"OBSERVE": how}}

    return use


def both() -> list[int]:
    return [Product.objects.count(), Category.objects.count()]


def declared(*depends_on: Any, function: Any = both, key: str = "declared") -> Any:
    return nudged.get_or_set(key, function, depends_on=depends_on)


def test_a_table_that_is_not_named_is_said_with_the_statement(
    observe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    observe("warn")
    assert declared(Product) == [0, 0]
    assert declared(Product, key="another") == [0, 0]
    (line, other) = caplog.messages
    assert "nudged value 'declared' reads shop.Category and does not depend on it" in line
    assert 'SELECT COUNT(*) AS "__count" FROM "shop_category"' in line
    assert "'another'" in other


def test_it_is_said_once_a_minute(observe: Any, caplog: pytest.LogCaptureFixture) -> None:
    observe("warn")
    for _ in range(3):
        declared(Product)
        nudged.delete("declared")
    assert len(caplog.messages) == 1


def test_a_project_may_have_it_raised(observe: Any) -> None:
    observe("raise")
    with pytest.raises(UndeclaredError, match=r"shop\.Category"):
        declared(Product)
    assert declared(Product, Category) == [0, 0]


async def test_in_tasks_too(observe: Any, fresh_threads: None) -> None:
    observe("raise")

    async def count() -> int:
        return await Category.objects.acount()

    with pytest.raises(UndeclaredError, match=r"shop\.Category"):
        await nudged.aget_or_set("declared", count, depends_on=[Product])


@pytest.mark.parametrize(
    ("how", "debug", "says"),
    [("off", True, False), (None, True, True), (None, False, False), (0.0, True, False),
     (1.0, False, True)],
)  # fmt: skip
def test_where_it_is_checked(
    how: Any, debug: bool, says: bool, observe: Any, settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    observe(how)
    settings.DEBUG = debug
    declared(Product)
    assert bool(caplog.messages) == says


def test_a_share_of_the_misses(observe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    observe(0.25)
    drawn = iter([0.3, 0.2])
    monkeypatch.setattr("random.random", lambda: next(drawn))
    state = Observed(names)  # only for its state
    assert state() == []
    from django_pgnudge.reader.state import reader_state

    assert [observers.how_to_check(reader_state("default")) for _ in range(2)] == ["off", "warn"]


NAMED: dict[str, tuple[Any, list[Any]]] = {
    "a row": (lambda: list(Product.objects.filter(pk=1)), [nudged.row(Product, 1)]),
    "a parent of inheritance": (lambda: list(Restaurant.objects.all()), [Restaurant]),
    "a table behind a view": (lambda: execute("SELECT * FROM cheap"), [Product]),
    "a partition of what is named": (lambda: execute("SELECT * FROM part_1"), ["public.part"]),
    "another value's": (
        lambda: nudged.get_or_set("inner", names, depends_on=[Product]),
        [Category],
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_named_is_not_said(case: str, observe: Any, nudge_fake: NudgeFake) -> None:
    execute("CREATE VIEW cheap AS SELECT * FROM shop_product WHERE price < 10")
    execute("CREATE TABLE part (id int) PARTITION BY RANGE (id)")
    execute("CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)")
    nudge_fake.resync()
    observe("raise")
    function, depends_on = NAMED[case]
    for _ in range(2):
        declared(*depends_on, function=function)


def test_the_whole_of_a_partitioned_table_is_more_than_a_part(
    observe: Any, nudge_fake: NudgeFake
) -> None:
    execute("CREATE TABLE part (id int) PARTITION BY RANGE (id)")
    execute("CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)")
    nudge_fake.resync()
    observe("raise")
    with pytest.raises(UndeclaredError, match=r"public\.part "):
        declared("public.part_1", function=lambda: execute("SELECT * FROM part"))


def test_what_the_transaction_had_read_before_is_not_the_value_s(observe: Any) -> None:
    observe("raise")
    with transaction.atomic():
        Place.objects.count()
        assert declared(Product, function=names) == []


def test_the_questions_are_no_queries_of_the_site_s(observe: Any) -> None:
    observe("warn")
    with CaptureQueriesContext(connection) as queries:
        declared(Product, function=names)
    assert [query["sql"] for query in queries if "lock" in query["sql"]] == []


def test_in_a_project_s_own_tests_it_is_said(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``nudge_fake`` and without DEBUG."""
    assert nudge_fake.state.is_of_tests
    assert observers.how_to_check(nudge_fake.state) == "warn"
