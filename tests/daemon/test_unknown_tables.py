"""daemon/catalog_refresh.py in a daemon: names of tables that mean nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.daemon import catalog_refresh
from django_pgnudge.decoding import KeyColumn
from django_pgnudge.registry.catalog import Catalog
from tests.daemon.running import PRICES, Heard, fill, running, stored
from tests.fakes import describe, event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.usefixtures("flaky_caches")


def attached_to_prices(leaf: str, **more: Any) -> Catalog:
    key = (KeyColumn("code", "text"),)
    return Catalog(
        parents={leaf: (PRICES,)},
        roots={leaf: PRICES},
        primary_keys={leaf: key, PRICES: key},
        **more,
    )


async def test_a_partition_made_meanwhile_nudges_its_root_once_it_is_known(heard: Heard) -> None:
    leaf = "legacy.prices_2027"

    made = False

    def learn() -> Catalog:
        return attached_to_prices(leaf) if made else Catalog()

    async with running(catalog=learn) as (_, feed):
        fill()
        made = True
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
        await until(lambda: any(PRICES in given["tables"] for _, given in heard.calls))
        before = len(heard.calls)
        feed.say(event(leaf, 2), event(PRICES, 3))
        await until(lambda: len(heard.calls) > before)
    assert heard.calls[-1][1]["tables"] == {PRICES}
    assert heard.calls[-1][1]["batch"].events[0].keys == {(2,), (3,)}


async def test_a_table_attached_as_a_partition_later_is_found_though_it_was_not_selected(
    settings: Settings, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_refresh, "STALE_AFTER", 0.0)
    settings.PGNUDGE = {**settings.PGNUDGE, "TABLES": [PRICES]}
    leaf, tables = "legacy.loaded", {"legacy.loaded": ("legacy", "loaded")}
    attached = False

    def learn() -> Catalog:
        return attached_to_prices(leaf, tables=tables) if attached else Catalog(tables=tables)

    async with running(catalog=learn) as (_, feed):
        feed.connected()
        await until(lambda: heard.calls)
        fill()
        attached = True
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
        await until(lambda: len(heard.calls) == 2)
    assert heard.calls[1][1]["tables"] == {PRICES}


async def test_a_partition_is_kept_in_mind_while_the_catalogs_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog_refresh, "RETRY_REFRESH", 0.001)
    leaf = "legacy.prices_2028"
    tries = []
    async with running() as (daemon, feed):

        async def refresh(patience: float | None) -> bool:
            tries.append(patience)
            if len(tries) < 3:
                return False
            describe(daemon.registry, attached_to_prices(leaf))
            return True

        daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
        fill()
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
    assert len(tries) == 3


async def test_catalogs_are_read_now_and_then_for_tables_that_mean_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []

    def learn() -> Catalog:
        reads.append(1)
        return Catalog(tables={"legacy.log": ("legacy", "log")})

    async with running(catalog=learn) as (daemon, feed):
        for lsn in range(1, 20):
            feed.say("legacy.log", lsn=lsn)
        await until(lambda: daemon.status().lsn == 19)
        assert len(reads) == 1
        waiting = daemon.dispatcher.catalog_refresh._unresolved  # noqa: SLF001 - it is bounded
        assert [event.count for event in waiting] == [19]
