"""lookups: when the catalogs are read for names that mean nothing, and that no change is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_pgnudge.daemon import catalog_refresh as catalog_refresh_module
from django_pgnudge.daemon.catalog_refresh import CatalogRefresh
from django_pgnudge.registry import Registry
from django_pgnudge.registry.catalog import Catalog
from tests.fakes import describe, event
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django_pgnudge.events import Batch

LEAF, ROOT, BUSY = "public.leaf", "public.root", "public.busy"
TABLES = {f"public.{name}": ("public", name) for name in ("leaf", "root", "busy")}
ATTACHED = Catalog(tables=TABLES, parents={LEAF: (ROOT,)}, roots={LEAF: ROOT})


class World:
    """Look-ups in catalogs that say what a test tells them."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.catalog = Catalog(tables=TABLES)
        self.told: list[tuple[str, int]] = []
        self.broken = False
        self.looks = 0
        self.catalog_refresh = CatalogRefresh("default", self.registry, self.dispatch)
        self.catalog_refresh.refresh = self.refresh  # type: ignore[method-assign]

    async def dispatch(self, batch: Batch) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        self.told += [(each.payload, each.count) for each in batch.events]

    async def refresh(self, patience: float | None) -> bool:
        self.looks += 1
        describe(self.registry, self.catalog)
        return True


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.refresh(None)
    made.looks = 0
    yield made
    await made.catalog_refresh.aclose()


async def test_a_busy_table_without_a_model_has_the_catalogs_read_for_few_requests_to_settle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_refresh_module, "SHARE", 1e-9)
    monkeypatch.setattr(catalog_refresh_module, "LONGEST_PAUSE", 3600.0)
    world.catalog_refresh.add([event(BUSY)])
    assert await world.catalog_refresh.resolve(5.0)
    assert world.looks == 1
    for _ in range(20):
        world.catalog_refresh.add([event(BUSY)])
        assert not await world.catalog_refresh.resolve(0.005)
    assert world.looks == 1
    world.catalog_refresh.add([event("public.newborn")])
    assert await world.catalog_refresh.resolve(5.0), (
        "a name that is in no catalog is looked up at once"
    )
    assert world.looks == 2


async def test_requests_to_settle_are_answered_when_the_catalogs_may_be_read_again(
    world: World,
) -> None:
    for _ in range(3):
        world.catalog_refresh.add([event(BUSY)])
        assert await world.catalog_refresh.resolve(5.0)
    assert world.looks == 3


async def test_a_change_that_cannot_be_dispatched_is_kept_and_dispatched_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog_refresh_module, "RETRY_REFRESH", 0.001)
    world.broken = True
    world.catalog_refresh.add([event(LEAF, count=2)])
    world.catalog = ATTACHED
    assert not await world.catalog_refresh.resolve(5.0), "what it means has not been dispatched"
    assert world.told == []
    assert "could not be dispatched" in caplog.text
    assert "a bug" in caplog.text
    world.catalog_refresh.add([event(LEAF, count=3)])
    world.broken = False
    await until(lambda: world.told, "the timer or a look-up, whichever comes first")
    assert sum(count for _, count in world.told) == 5


async def test_names_in_no_catalog_stay_unsettled_until_they_are_dispatched(world: World) -> None:
    world.broken = True
    world.catalog_refresh.add([event("public.newborn")])
    world.catalog = Catalog(
        tables={**TABLES, "public.newborn": ("public", "newborn")},
        parents={"public.newborn": (ROOT,)},
        roots={"public.newborn": ROOT},
    )
    assert not await world.catalog_refresh.resolve_new(), "there is no proof meanwhile"
    world.broken = False
    assert await world.catalog_refresh.resolve_new()
    assert world.told == [("public.newborn", 1)]
