"""collecting: a value computed from other nudged values stands on all that they stand on."""

# ruff: noqa: PLW0108 -- a function that is nudged already cannot be nudged

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge import caches, nudged, nudged_condition, nudged_page
from django_pgnudge.log import forget_logged
from django_pgnudge.testing import faked
from tests.fix_nudged import count_calls
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake


@pytest.fixture
def both(settings: Any) -> Iterator[NudgeFake]:
    """Two caches that hold nudged values."""
    settings.PGNUDGE = {"NUDGED": {"CACHES": ["default", "fast"]}}
    forget_logged()
    for alias in ("default", "fast"):
        django_caches[alias].clear()
    with faked() as fake:
        yield fake


class Table:
    """Stands for a table: what is read from it, and how often."""

    def __init__(self) -> None:
        self.row = "old"
        self.reads = 0

    def read(self) -> str:
        self.reads += 1
        return self.row


def ended_in(alias: str, fake: NudgeFake, model: Any) -> None:
    """The daemon has dealt with a change in one cache, and is late in the others."""
    for dependency in fake.tables.dependencies([model]) or ():
        caches.values(alias).delete(fake.names.tokens(dependency))


def test_a_value_of_another_cache_is_not_stored_under_this_ones_newer_token(
    both: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table()
    inner = nudged(Product, cache="fast", key=lambda: "inner")(table.read)
    outer = nudged(Product, cache="default", key=lambda: "outer")(lambda: inner())
    assert inner() == "old"
    table.row = "new"
    ended_in("default", both, Product)
    assert outer() == "old", "within the lease of the other cache"
    ended_in("fast", both, Product)
    assert outer() == "new"
    assert "in the cache 'fast', which another lease stands for" in caplog.text


def test_what_ends_an_inner_value_ends_the_outer_one(
    each_cache: str, nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table()
    inner = nudged(Product, key=lambda: "inner")(table.read)
    outer = nudged(Category, key=lambda: "outer")(lambda: inner())
    assert (outer(), outer()) == ("old", "old")
    asked = count_calls(monkeypatch)
    outer()
    assert len(asked) == 1, "a value that is known to stand on more asks for it at once"
    table.row = "new"
    nudge_fake.changed(Product)
    assert (outer(), outer(), table.reads) == ("new", "new", 2)
    nudge_fake.changed(Category)
    assert (outer(), table.reads) == ("new", 2)


def test_another_process_asks_twice_once(
    each_cache: str, nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = nudged(Product, key=lambda: "inner")(lambda: "value")
    outer = nudged(Category, key=lambda: "outer")(lambda: inner())
    outer()
    monkeypatch.setattr(nudge_fake.state, "plans", {})
    elsewhere = nudged(Category, key=lambda: "outer")(outer.__wrapped__)
    asked = count_calls(monkeypatch)
    assert elsewhere() == "value"
    assert len(asked) == 2
    assert elsewhere() == "value"
    assert len(asked) == 3


def test_an_outer_value_is_not_stored_over_a_change_between_two_inner_ones(
    nudge_fake: NudgeFake,
) -> None:
    table = Table()
    inner = nudged(Product, key=lambda number: number)(lambda number: table.read())

    def both_parts() -> list[str]:
        first = inner(1)
        if table.row == "old":
            table.row = "new"
            nudge_fake.changed(Product)
        return [first, inner(2)]

    outer = nudged(Category, key=lambda: "outer")(both_parts)
    assert outer() == ["old", "new"]
    assert outer() == ["new", "new"]


def test_an_inner_value_that_cannot_be_cached_keeps_the_outer_from_being(both: NudgeFake) -> None:
    table = Table()
    inner = nudged(Product, cache="fast", key=lambda: "inner")(table.read)
    outer = nudged(Category, cache="default", key=lambda: "outer")(lambda: inner())
    caches.values("fast").delete([both.names.lease])
    outer()
    table.row = "new"
    assert outer() == "new"


def test_a_value_handed_an_instance_of_another_cache_is_not_stored(both: NudgeFake) -> None:
    """The token is known since before the block, and the instance is older all the same."""
    table = Table()
    load = nudged(Product, cache="fast", key=lambda: "load")(
        lambda: Product(pk=1, name=table.read())
    )
    label = nudged(Product, cache="default", key=lambda product: "label")(
        lambda product: product.name
    )
    with nudged.reading():
        load()
    table.row = "new"
    ended_in("default", both, Product)
    with nudged.reading():
        label(Product(pk=1, name="only to know the token"))
        label.invalidate(Product(pk=1, name=""))
    with nudged.reading():
        assert label(load()) == "old"
    ended_in("fast", both, Product)
    with nudged.reading():
        assert label(load()) == "new"


def test_a_condition_promises_nothing_for_a_view_that_read_another_cache(
    both: NudgeFake, rf: Any
) -> None:
    from django.http import HttpResponse

    inner = nudged(Product, cache="fast", key=lambda: "inner")(lambda: "body")

    @nudged_condition(Product, cache="default")
    def view(request: Any) -> HttpResponse:
        return HttpResponse(inner())

    @nudged_condition(Product, cache="fast")
    def same(request: Any) -> HttpResponse:
        return HttpResponse(inner())

    assert "ETag" not in view(rf.get("/"))
    assert "ETag" in same(rf.get("/"))


async def test_tasks_inside_belong_to_the_outer_value(both: NudgeFake) -> None:
    import asyncio

    table = Table()

    @nudged(Product, cache="fast", key=lambda: "inner")
    async def inner() -> str:
        return table.read()

    @nudged(Product, cache="default", key=lambda: "outer")
    async def outer() -> list[str]:
        return list(await asyncio.gather(inner(), inner()))

    await outer()
    table.row = "new"
    ended_in("default", both, Product)
    ended_in("fast", both, Product)
    assert await outer() == ["new", "new"]


def _lazily(body: Any) -> Any:
    """A view whose response is made of ``body()`` when it is rendered."""
    from django.template.response import SimpleTemplateResponse

    class Template:
        def render(self, context: Any, request: Any) -> str:
            return str(body())

    return lambda request: SimpleTemplateResponse(Template())  # type: ignore[arg-type]


@pytest.mark.parametrize("outer", ["condition", "page", "value"])
def test_what_a_page_uses_while_it_is_rendered_counts_also_below_another_decorator(
    both: NudgeFake, rf: Any, outer: str
) -> None:
    table = Table()
    inner = nudged(Product, cache="fast", key=lambda: "inner")(table.read)
    page = nudged_page(60, Product, cache="default")(_lazily(inner))
    decorated: dict[str, Any] = {
        "condition": lambda: nudged_condition(Product, cache="default")(page),
        "page": lambda: nudged_page(60, Category, cache="default")(page),
        "value": lambda: nudged(Product, cache="fast", key=lambda request: "v")(page),
    }
    view = decorated[outer]()
    assert view(rf.get("/")).render().content == b"old"
    assert page(rf.get("/")).is_rendered is False, "it stands on another cache's lease"


def test_what_ends_a_value_used_in_rendering_ends_each_page_around_it(
    both: NudgeFake, rf: Any
) -> None:
    table = Table()
    inner = nudged(Category, cache="default", key=lambda: "inner")(table.read)
    below = nudged_page(60, Product, cache="default")(_lazily(inner))
    above = nudged_page(60, Product, cache="default")(below)
    for page in (above, below):
        assert page(rf.get("/")).render().content == b"old"
    assert (above(rf.get("/")).content, below(rf.get("/")).content) == (b"old", b"old")
    table.row = "new"
    both.changed(Category)
    assert below(rf.get("/")).render().content == b"new"
    assert above(rf.get("/")).render().content == b"new"
