"""decorator: a function that is handed a model instance is handed what it holds in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.utils.functional import SimpleLazyObject

from django_pgnudge import nudged
from django_pgnudge.log import forget_logged
from tests.shop.models import Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

calls: list[str] = []


@pytest.fixture(autouse=True)
def from_the_beginning() -> None:
    forget_logged()
    calls.clear()
    caches["default"].clear()


@nudged(Product)
def label(product: Product) -> str:
    calls.append(product.name)
    return product.name


@nudged(Product)
async def alabel(product: Product) -> str:
    return label.__wrapped__(product)


def loaded(name: str, db: str = "default") -> Product:
    return Product.from_db(db, ["id", "name"], [1, name])


def test_an_instance_changed_in_memory_is_not_taken_for_its_row(nudge_fake: NudgeFake) -> None:
    """As the form of an invalid request leaves it."""

    def request(product: Product) -> str:
        with nudged.reading():
            return label(product)

    changed = loaded("kept")
    changed.name = "never saved"
    request(loaded("kept"))
    seen = [request(each) for each in (loaded("kept"), changed, loaded("kept"), changed)]
    assert seen == ["kept", "never saved", "kept", "never saved"]


async def test_an_instance_of_which_one_is_unsure_is_not_kept_and_told(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    for product in (loaded("other", db="other"), loaded("holding")):
        if product.name == "holding":
            forget_logged()
            product.extra = lambda: 1  # type: ignore[attr-defined]
        with nudged.reading():
            assert [label(product), await alabel(product), label(product)] == [product.name] * 3
        label.invalidate(product)
        await alabel.ainvalidate(product)
    assert len(calls) == 6
    assert caplog.text.count("label is handed an instance") == 4
    assert "was read from the database 'other'" in caplog.text
    assert "extra holds a function" in caplog.text


def test_an_instance_read_before_is_kept_only_under_tokens_known_before(
    nudge_fake: NudgeFake,
) -> None:
    """The instance was read before the tokens were taken, and may be old."""

    def request() -> int:
        with nudged.reading():
            label(loaded("a"))
        return len(calls)

    label(loaded("a"))  # outside
    nudge_fake.resync()
    assert [request(), request(), request()] == [2, 3, 3]
    nudge_fake.changed(Product)
    assert [request(), request(), request()] == [4, 5, 5]


@nudged(depends_on=lambda product: [product])
def of_row(product: Any) -> int:
    calls.append("called")
    return len(calls)


def test_a_lazy_instance_is_the_instance_and_its_row(nudge_fake: NudgeFake) -> None:
    """As ``request.user`` is one."""

    def request() -> int:
        with nudged.reading():
            return of_row(SimpleLazyObject(lambda: loaded("a")))

    assert [request(), request(), request()] == [1, 2, 2]
    nudge_fake.changed(Product, pk=2)
    assert request() == 2
    nudge_fake.changed(Product, pk=1)
    assert request() == 3
