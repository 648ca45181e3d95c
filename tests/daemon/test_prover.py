"""The prover: what a map that moved leads to, and what it does when it cannot read it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from django_pgnudge.daemon.catalog_refresh import CatalogRefresh
from django_pgnudge.daemon.proof import Prover
from django_pgnudge.errors import ConnectionLostError, NotCurrentError
from django_pgnudge.feed.fingerprint import Moved
from django_pgnudge.registry import Registry
from django_pgnudge.registry.catalog import Catalog
from tests.fakes import FakeFeed, describe, event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

    from django_pgnudge.events import Batch

LEAF, OLD, NEW = "public.leaf", "public.old", "public.new"
TABLES = {f"public.{name}": ("public", name) for name in ("leaf", "old", "new")}


class World:
    """A prover with a feed and a registry that say what a test tells them."""

    def __init__(self) -> None:
        self.feed = FakeFeed()
        self.registry = Registry()
        self.dispatched: list[str] = []
        self.any_row = True
        self.readable = True
        self.reads = 0
        self.catalog = Catalog(tables=TABLES, parents={LEAF: (OLD,)}, roots={LEAF: OLD})
        self.catalog_refresh = CatalogRefresh("default", self.registry, self.dispatch)
        self.catalog_refresh.refresh = self.refresh  # type: ignore[method-assign]
        self.prover = Prover(
            feed=lambda: self.feed,
            catalog_refresh=self.catalog_refresh,
            registry=self.registry,
            dispatch=self.dispatch,
            ruled=lambda: {"public.ruled"},
        )

    async def dispatch(self, batch: Batch) -> None:
        self.dispatched += batch.payloads()
        self.any_row &= all(each.keys is None for each in batch.events)

    async def refresh(self, patience: float | None) -> bool:
        self.reads += 1
        if self.readable:
            describe(self.registry, self.catalog)
        return self.readable

    async def map(self) -> int:
        return (await self.prover.prove()).map


@pytest.fixture
async def world() -> World:
    made = World()
    assert await made.prover.read_map(1.0)
    return made


async def test_a_map_that_stood_still_is_proved_without_reading_it(world: World) -> None:
    world.feed.tables = frozenset({LEAF, OLD})
    proof = await world.prover.prove()
    assert proof.covered == {LEAF, OLD}
    assert await world.map() == proof.map
    assert world.reads == 1
    assert world.dispatched == []


async def test_a_table_that_moved_is_told_under_its_names_and_parents_of_before_and_after(
    world: World,
) -> None:
    before = await world.map()
    world.feed.moved = Moved(frozenset({LEAF}))
    world.catalog = Catalog(tables=TABLES, parents={LEAF: (NEW,)}, roots={LEAF: NEW})
    after = await world.map()
    assert after != before
    assert set(world.dispatched) == {LEAF, OLD, NEW}
    assert world.any_row
    assert len(world.feed.relearned) == 1
    assert await world.map() == after
    assert len(world.dispatched) == 3, "once"


async def test_a_table_that_is_only_stored_anew_is_told_and_the_map_is_the_same(
    world: World,
) -> None:
    before = await world.map()
    world.feed.moved = Moved(frozenset({LEAF}), stored=frozenset({LEAF}))
    assert await world.map() == before
    assert set(world.dispatched) == {LEAF, OLD}


async def test_a_publication_that_moved_concerns_what_it_covers_and_every_rule(
    world: World,
) -> None:
    world.feed.tables = frozenset({LEAF, OLD})
    before = await world.map()
    world.feed.moved = Moved(publication=True)
    world.feed.tables = frozenset({LEAF, NEW})
    assert await world.map() != before
    assert set(world.dispatched) == {LEAF, OLD, NEW, "public.ruled"}


async def test_what_queries_read_by_concerns_values_of_no_known_table(world: World) -> None:
    before = await world.map()
    world.feed.moved = Moved(reading=True)
    assert await world.map() != before
    assert world.dispatched == []


async def test_coverage_that_shrank_for_no_known_reason_is_another_map(world: World) -> None:
    world.feed.tables = frozenset({LEAF, OLD})
    before = await world.map()
    world.feed.tables = frozenset({LEAF})
    after = await world.map()
    assert after != before
    assert await world.map() == after


async def test_a_map_that_cannot_be_read_is_no_proof_and_is_not_forgotten(world: World) -> None:
    world.feed.moved = Moved(frozenset({LEAF}))
    world.readable = False
    for _ in range(2):
        with pytest.raises(NotCurrentError, match="cannot be read"):
            await world.prover.prove()
    assert world.dispatched == []
    world.readable = True
    await world.prover.prove()
    assert set(world.dispatched) == {LEAF, OLD}


async def test_proofs_asked_for_at_the_same_time_tell_a_move_once_and_each_after_it(
    world: World,
) -> None:
    world.feed.moved = Moved(frozenset({LEAF}), publication=True)
    first, second = await asyncio.gather(world.prover.prove(), world.prover.prove())
    assert first == second
    assert first.map == 1
    assert len(world.dispatched) == len(set(world.dispatched))


async def test_proofs_wait_for_the_stream_side_by_side(world: World) -> None:
    """Each of them as long as it lags, not one behind the other."""
    both = asyncio.Barrier(2)
    world.feed.caught_up = both.wait
    async with asyncio.timeout(10):
        await asyncio.gather(world.prover.prove(), world.prover.prove())


async def test_a_stream_that_began_anew_while_another_proof_looked_proves_nothing(
    world: World,
) -> None:
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def surveyed() -> None:
        looking.set()
        await go_on.wait()

    world.feed.surveyed = surveyed
    first = asyncio.create_task(world.prover.prove())
    await looking.wait()
    second = asyncio.create_task(world.prover.prove())
    await asyncio.sleep(0)
    world.feed.slot_name = "pgnudge_another"
    go_on.set()
    await first
    with pytest.raises(NotCurrentError, match="began anew"):
        await second


@pytest.mark.parametrize(
    ("excluded", "covered"),
    [
        pytest.param([], {LEAF, OLD, NEW}, id="nothing"),
        pytest.param([LEAF], {NEW}, id="a partition"),
        pytest.param(["public.le*"], {LEAF, OLD, NEW}, id="no pattern"),
        pytest.param([OLD], {NEW}, id="a root"),
    ],
)
async def test_a_table_is_covered_only_if_nothing_below_it_is_excluded(
    world: World, settings: Settings, excluded: list[str], covered: set[str]
) -> None:
    settings.PGNUDGE = {"EXCLUDE": excluded}
    world.feed.tables = frozenset({LEAF, OLD, NEW})
    assert (await world.prover.prove()).covered == covered


async def test_a_registry_that_was_not_read_when_a_stream_began_is_another_map() -> None:
    world = World()
    world.readable = False
    assert not await world.prover.read_map(1.0)
    with pytest.raises(NotCurrentError):
        await world.prover.prove()
    world.readable = True
    first = await world.map()
    assert first != 0, "a keeper that has proved nothing yet ends the epoch too"
    assert world.dispatched == ["public.ruled"]
    world.feed.slot_name = "pgnudge_another"
    assert await world.map() != first


async def test_a_name_in_no_catalog_is_looked_up_before_the_proof(world: World) -> None:
    world.catalog_refresh.add([event("public.later", 1)])
    world.catalog = Catalog(
        tables={**TABLES, "public.later": ("public", "later")},
        parents={"public.later": (OLD,)},
        roots={"public.later": OLD},
    )
    await world.prover.prove()
    assert world.dispatched == ["public.later"]
    world.readable = False
    world.catalog_refresh.add([event("public.latest", 1)])
    with pytest.raises(NotCurrentError, match="may be new partitions"):
        await world.prover.prove()
    await world.catalog_refresh.aclose()


async def test_a_proof_takes_what_its_feed_raises_for_none(world: World) -> None:
    world.feed.current = False
    with pytest.raises(ConnectionLostError, match="not current"):
        await world.prover.prove()


async def test_the_map_is_looked_at_though_nobody_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_pgnudge.daemon import proof

    monkeypatch.setattr(proof, "WATCH", 0.01)
    world.feed.current = False
    watching = asyncio.create_task(world.prover.watch())
    try:
        world.feed.moved = Moved(frozenset({LEAF}))
        world.feed.current = True
        await until(lambda: world.dispatched, "what the map says of it")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_change_that_waits_for_two_looks_at_the_catalogs_counts_once() -> None:
    told: list[Batch] = []

    async def dispatch(batch: Batch) -> None:
        told.append(batch)

    registry = Registry()
    catalog_refresh = CatalogRefresh("default", registry, dispatch)
    looks = 0

    async def refresh(patience: float | None) -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            catalog_refresh.add([event(LEAF, count=3)])
        else:
            describe(registry, Catalog(tables=TABLES, parents={LEAF: (OLD,)}, roots={LEAF: OLD}))
        return True

    catalog_refresh.refresh = refresh  # type: ignore[method-assign]
    catalog_refresh.add([event("public.other")])
    assert await catalog_refresh.resolve(5.0)
    assert await catalog_refresh.resolve(5.0)
    assert [(each.payload, each.count) for batch in told for each in batch.events] == [(LEAF, 3)]
