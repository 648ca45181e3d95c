"""What users pass by mistake, or by good right, as a dependency: said in our words, or taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.template import Context, Engine
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from django_pgnudge import nudged, own, settled
from django_pgnudge.errors import ConfigError
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})


def lazy(pk: int = 1) -> Any:
    """As ``request.user``."""
    return SimpleLazyObject(lambda: Product(pk=pk))


SHOWN: list[int] = []


@nudged(depends_on=lazy)
def shown(pk: int) -> int:
    SHOWN.append(1)
    return len(SHOWN)


def counted(depends_on: Any, calls: list[int]) -> Any:
    def count() -> int:
        calls.append(1)
        return len(calls)

    return nudged.get_or_set("counted", count, depends_on=depends_on)


@pytest.mark.parametrize(
    "depends_on",
    [Product, "shop.Product", nudged.row(Product, 1), Product(pk=1), lazy(), [lazy()], (Product,)],
    ids=["model", "label", "row", "instance", "lazy", "lazies", "models"],
)
def test_one_dependency_needs_no_list_and_may_be_lazy(
    nudge_fake: NudgeFake, depends_on: Any
) -> None:
    calls: list[int] = []
    assert [counted(depends_on, calls) for _ in range(2)] == [1, 1]
    nudge_fake.changed(Category)
    assert counted(depends_on, calls) == 1
    nudge_fake.changed(Product, pk=1)
    assert counted(depends_on, calls) == 2


@pytest.mark.parametrize("wrong", [7, [7], [object()], []])
def test_what_nothing_can_depend_on_is_a_config_error(nudge_fake: NudgeFake, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="depend"):
        counted(wrong, [])


def test_a_lazy_object_is_what_it_stands_for_in_every_place(nudge_fake: NudgeFake) -> None:
    SHOWN.clear()
    assert [shown(3), shown(3)] == [1, 1]
    nudge_fake.changed(Product, pk=2)
    assert shown(3) == 1
    nudge_fake.changed(Product, pk=3)
    assert shown(3) == 2

    template = ENGINE.from_string(
        "{% load nudged %}{% nudged 60 card on user %}{{ shown }}{% endnudged %}"
    )
    assert template.render(Context({"user": lazy(), "shown": "old"})) == "old"
    nudge_fake.changed(Product, pk=2)
    template.render(Context({"user": lazy(), "shown": "old"}))
    nudge_fake.changed(Product, pk=1)
    assert template.render(Context({"user": lazy(), "shown": "new"})) == "new"


@pytest.mark.parametrize("wrong", [Product, [Product], "shop.Product"])
def test_depends_on_of_the_decorator_is_a_function(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"@nudged\(Product\)"):
        nudged(depends_on=wrong)


@pytest.mark.parametrize("name", ["Product", "shop_prodct", "prodct"])
def test_a_slip_of_a_name_is_told_at_the_first_call(nudge_fake: NudgeFake, name: str) -> None:
    @nudged(name)
    def value() -> int:
        return 1

    with pytest.raises(ConfigError, match=r"Did you mean 'shop\.Product'"):
        value()
    with pytest.raises(ConfigError, match=r"Did you mean 'shop\.Product'"):
        nudge_fake.changed(name)


def test_without_a_cache_for_nudged_values_that_is_said(settings: Any) -> None:
    settings.PGNUDGE = {"NUDGED": {"CACHES": []}}
    with pytest.raises(ImproperlyConfigured, match="CACHES"):
        counted([Product], [])
    with pytest.raises(ImproperlyConfigured, match="CACHES"):
        settled()


def test_an_own_nudge_of_any_name_is_declared(nudge_fake: NudgeFake) -> None:
    calls: list[int] = []
    assert counted([own("Product")], calls) == 1
    nudge_fake.changed(Product)
    assert counted([own("Product")], calls) == 1
    nudge_fake.changed(own("Product"))
    assert counted([own("Product")], calls) == 2


def test_with_atomic_requests_a_hit_before_the_first_query_asks_postgresql_nothing(
    real_sessions: NudgeFake,
) -> None:
    @nudged(Category)
    def value() -> int:
        return Category.objects.count()

    value()
    value()
    # As ATOMIC_REQUESTS wraps a view.
    with transaction.atomic(), CaptureQueriesContext(connections["default"]) as asked:
        value()
        value()
        assert len(asked) == 0
        list(Category.objects.all())
        before = len(asked)
        value()
        # The transaction may have written in a function: only PostgreSQL knows.
        assert len(asked) == before + 1
