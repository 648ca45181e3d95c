"""third_party: what the daemon makes of a batch and a Resync for another package's cache."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge import third_party
from django_pgnudge.daemon import cache_worker, proof
from django_pgnudge.daemon import core as daemon_module
from django_pgnudge.daemon import third_party as hop
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.errors import CacheError
from django_pgnudge.feed.fingerprint import Moved
from django_pgnudge.registry.catalog import Catalog
from django_pgnudge.rules.registration import sandbox
from django_pgnudge.signals import tables_changed
from django_pgnudge.third_party import Table, ThirdPartyCache
from tests.daemon.running import running
from tests.fakes import event
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_django.fixtures import Settings

    from django_pgnudge.registry import Registry
    from django_pgnudge.third_party import Rows

PRODUCT = Table("public", "shop_product")


class Recorder(ThirdPartyCache):
    name = "tests.recorder"
    wants_rows = True

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.is_down = False
        self.gate = threading.Event()
        self.gate.set()
        self.run = "one"
        self.is_asked = threading.Event()

    def invalidate(self, changes: Mapping[Table, Rows], registry: Registry) -> int:
        return self._do(dict(changes))

    def invalidate_all(self, registry: Registry) -> int:
        return self._do("all")

    def incarnation(self) -> str:
        return self.run

    def _do(self, what: Any) -> int:
        self.is_asked.set()
        self.gate.wait(10)
        if self.is_down:
            raise ConnectionError("nobody there")
        self.done.append(what)
        return 1


@pytest.fixture(autouse=True)
def cache(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    settings.PGNUDGE = {}
    monkeypatch.setattr(third_party, "_registered", {})
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: {"host": "nowhere"})
    monkeypatch.setattr(cache_worker, "BACKOFF", (0.005, 0.01))
    monkeypatch.setattr(hop, "AGAIN", 1000.0)
    made = Recorder()
    third_party.register(made)
    # A proof may tell of tables that rules name.
    with sandbox():
        yield made
    made.gate.set()


async def test_rows_come_as_the_model_has_them(cache: Recorder) -> None:
    async with running() as (_, feed):
        feed.say(event("public.shop_product", 7, 9))
        await until(lambda: cache.done)
    assert cache.done == [{PRODUCT: frozenset({(7,), (9,)})}]


async def test_own_nudges_are_no_tables(cache: Recorder) -> None:
    async with running() as (daemon, feed):
        feed.say("prices", "*")
        await until(lambda: daemon.dispatcher.receivers.batches == 1)
    assert cache.done == []


async def test_a_resync_invalidates_everything(cache: Recorder) -> None:
    async with running() as (_, feed):
        feed.connected()
        await until(lambda: cache.done)
    assert cache.done == ["all"]


async def test_a_partition_comes_with_its_root_and_a_root_with_its_partitions(
    cache: Recorder,
) -> None:
    leaf, root = Table("public", "shop_order_2025"), Table("public", "shop_order")
    tables = {f"public.{each.name}": tuple(each) for each in (leaf, root)}
    catalog: dict[str, Any] = {
        "tables": tables,
        "parents": {"public.shop_order_2025": ("public.shop_order",)},
        "roots": {"public.shop_order_2025": "public.shop_order"},
    }
    async with running(catalog=lambda: Catalog(**catalog)) as (_, feed):
        feed.say("public.shop_order_2025")
        await until(lambda: len(cache.done) == 1)
        feed.say("public.shop_order")
        await until(lambda: len(cache.done) == 2)
    assert cache.done == [{leaf: None, root: None}] * 2


async def test_receivers_hear_when_it_is_done(cache: Recorder) -> None:
    seen: list[Any] = []

    def receiver(**given: Any) -> None:
        seen.append(list(cache.done))

    tables_changed.connect(receiver)
    try:
        async with running() as (_, feed):
            feed.say("public.shop_product")
            await until(lambda: seen)
    finally:
        tables_changed.disconnect(receiver)
    assert seen == [[{PRODUCT: None}]]


async def test_after_an_outage_everything_is_invalidated(
    cache: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (daemon, feed):
        cache.is_down = True
        feed.say(event("public.shop_product", 7))
        worker = daemon.dispatcher.workers[cache.name]
        await until(lambda: worker.down_since is not None)
        with pytest.raises(CacheError, match="nobody there"):
            await worker.call(lambda: None)
        cache.is_down = False
        await until(lambda: worker.down_since is None)
    assert cache.done[0] == "all"
    assert "tests.recorder failed: ConnectionError: nobody there" in caplog.text


async def test_a_server_that_was_restarted_is_invalidated_without_a_change(
    cache: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_worker, "HEARTBEAT", 0.01)
    async with running() as (_, feed):
        feed.say("public.shop_product")
        await until(lambda: cache.done)
        cache.run = "two"
        await until(lambda: "all" in cache.done)


async def test_what_comes_meanwhile_merges(cache: Recorder) -> None:
    async with running() as (daemon, feed):
        cache.gate.clear()
        feed.say("public.shop_category")
        await until(cache.is_asked.is_set)
        for number in range(5):
            feed.say(event("public.shop_product", number))
        worker = daemon.dispatcher.workers[cache.name]
        rows = frozenset((number,) for number in range(5))
        await until(lambda: worker.pending() == len(rows))
        cache.gate.set()
        await until(lambda: len(cache.done) >= 2)
    assert cache.done[-1] == {PRODUCT: rows}


async def test_all_is_done_once_more(cache: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop, "AGAIN", 0.01)
    async with running() as (_, feed):
        feed.say("public.shop_product")
        await until(lambda: cache.done.count({PRODUCT: None}) == 2)
        feed.connected()
        await until(lambda: cache.done.count("all") == 2)


@pytest.mark.parametrize("wants", [False, True])
async def test_keys_are_collected_for_a_cache_that_uses_them(
    wants: bool,
    cache: Recorder,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.PGNUDGE = {"NUDGED": {"CACHES": []}}
    monkeypatch.setattr(cache, "wants_rows", wants)
    async with running(described=True) as (_, feed):
        assert (feed.options["keys"] is True) is wants


async def test_tables_are_told_after_a_change_of_the_publication(
    cache: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "WATCH", 0.01)
    tables = {"public.shop_product": ("public", "shop_product")}
    async with running(catalog=lambda: Catalog(tables=tables)) as (_, feed):
        feed.connected()
        await until(lambda: cache.done)
        feed.moved = Moved(publication=True)
        await until(lambda: any(PRODUCT in done for done in cache.done if done != "all"))


def test_past_the_limit_rows_become_tables() -> None:
    work = Invalidation()
    work.add_change(PRODUCT, frozenset((number,) for number in range(100_001)))
    work.bound()
    assert work.changes == {PRODUCT: None}
