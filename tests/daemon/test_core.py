"""daemon/core.py: what a daemon asks of its feed, and how both end."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.daemon import Daemon
from django_pgnudge.daemon import core as daemon_module
from django_pgnudge.errors import ConfigError, ConnectionLostError, ServerError
from django_pgnudge.signals import model_changed, tables_changed
from tests.daemon.running import PRICES, Heard, fill, running
from tests.fakes import FakeFeed, event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.usefixtures("flaky_caches")


@pytest.mark.parametrize("early", [False, True])
async def test_stop_does_not_wait_for_tables_to_be_described(
    early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (daemon, feed):
        asked = asyncio.Event()

        async def refresh(patience: float | None) -> bool:
            # For the stream that has begun; a proof, which may ask just then, has no patience.
            if patience is not None:
                asked.set()
            await asyncio.Event().wait()
            return True

        monkeypatch.setattr(daemon.dispatcher.catalog_refresh, "refresh", refresh)
        if early:
            # While the Resync is still being dealt with.
            monkeypatch.setattr(
                daemon.dispatcher.receivers, "add_resync", lambda *given: daemon.stop()
            )
        feed.connected()
        if early:
            await until(lambda: feed.closed)
        else:
            await asked.wait()
        assert asked.is_set() is not early


async def test_stop_finishes_the_batch_in_hand(heard: Heard) -> None:
    release = threading.Event()
    entered = threading.Event()

    def slow(**given: Any) -> None:
        entered.set()
        release.wait(10)

    tables_changed.connect(slow)
    try:
        async with running() as (daemon, feed):
            feed.say(PRICES, lsn=1)
            await until(entered.is_set)
            feed.say(PRICES, lsn=2)
            await until(feed.items.empty)
            daemon.stop()
            await until(lambda: feed.closed)
            assert daemon.status().lsn == 0
            release.set()
        assert daemon.status().lsn == 2
        assert len(heard.calls) == 2
    finally:
        release.set()
        tables_changed.disconnect(slow)


async def test_a_bug_of_the_feed_ends_the_daemon_with_it() -> None:
    feed = FakeFeed()
    feed.fail(ZeroDivisionError())
    daemon = Daemon(feed_class=lambda **options: feed)
    with pytest.raises(ZeroDivisionError):
        await daemon.run()
    assert feed.closed


async def test_the_feed_is_asked_for_the_keys_that_rules_or_receivers_use(
    heard: Heard, settings: Settings
) -> None:
    async with running() as (_, feed):
        assert feed.options["keys"] is True
    tables_changed.disconnect(heard.tables)
    model_changed.disconnect(heard.model)
    async with running(described=True) as (_, feed):
        assert feed.options["keys"] is True, "nudged values may stand on any row"
    settings.PGNUDGE = {**settings.PGNUDGE, "NUDGED": {"CACHES": []}}
    async with running(described=True) as (_, feed):
        assert PRICES in feed.options["keys"]  # and the tables of the test app's rules


async def test_settings_and_options_reach_the_feed(settings: Settings) -> None:
    settings.PGNUDGE = {
        "PLUGIN": "wal2json", "PUBLICATION": "p", "FEED": {"debounce": 1.0, "failsafe": 9.0}
    }  # fmt: skip
    async with running(plugin="pgoutput", feed_options={"debounce": 2.0}) as (_, feed):
        options = feed.options
    assert options["host"] == "nowhere"
    assert (options["plugin"], options["publication"]) == ("pgoutput", "p")
    assert (options["debounce"], options["failsafe"]) == (2.0, 9.0)


async def test_a_line_for_connect_resync_and_batch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as (daemon, feed):
        fill()
        feed.connected()
        await until(lambda: daemon.status().resyncs)
        feed.connected("reconnected")
        fill()
        feed.say(event(PRICES, 1, count=5), *(f"public.t{n}" for n in range(7)), committed_at=1.0)
        await until(lambda: daemon.status().batches)
    assert "1 batch, " in caplog.messages[-1]
    assert "2 Resyncs, 0 outages of caches" in caplog.messages[-1]
    lines = {record.getMessage().split()[0]: record for record in caplog.records}
    text = caplog.text
    assert "Connected to PostgreSQL 15.20 (database alias 'default') through test_decoding" in text
    assert "Resync (connected)" in text
    assert lines["Resync"].levelno == logging.WARNING
    assert f"{PRICES} (5 rows), public.t0 (1 row)" in text
    assert "3 more tables: " in text
    assert "ms from commit" in text


async def test_servers_that_do_not_answer_cost_one_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[threading.Thread] = []

    def find(using: str) -> dict[str, Any]:
        tries.append(threading.current_thread())
        if len(tries) < 3:
            msg = "None of the hosts answers."
            raise ConnectionLostError(msg)
        return {"host": "nowhere"}

    monkeypatch.setattr(daemon_module, "feed_connection", find)
    async with running():
        pass
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert "None of the hosts answers. Retrying." in caplog.text


async def test_a_reconnect_asks_again_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"host": "first", "port": 1, "ssl": False, "connect_timeout": 3.0}
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: found)
    async with running() as (daemon, feed):
        found = found | {"host": "second"}
        assert await feed.options["locate"]() == {"host": "second", "port": 1, "ssl": False}

        def gone(using: str) -> dict[str, Any]:
            msg = "the service file has gone"
            raise ConfigError(msg)

        monkeypatch.setattr(daemon_module, "feed_connection", gone)
        with pytest.raises(ConfigError):
            await feed.options["locate"]()
        daemon.connected = True  # what was right once may be again
        with pytest.raises(ConnectionLostError, match="service file"):
            await feed.options["locate"]()


async def test_a_permanent_mistake_ends_a_start_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = ServerError("password authentication failed", sqlstate="28P01")
    async with running() as (daemon, feed):
        give_up = feed.options["give_up"]
        assert not give_up(ConnectionLostError("refused"))
        assert give_up(wrong)
        daemon.connected = True
        for _ in range(3):
            assert not give_up(wrong)
    assert caplog.text.count("waiting will not help") == 1
