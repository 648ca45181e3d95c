"""daemon/receivers.py: receivers hear when the keys are gone, and hold nothing up."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User

from django_pgnudge.signals import tables_changed
from tests.daemon.running import PRICES, Heard, fill, running, stored
from tests.fakes import event
from tests.waiting import until

if TYPE_CHECKING:
    from django_pgnudge.events import Event

pytestmark = pytest.mark.usefixtures("flaky_caches")


async def test_keys_are_gone_before_receivers_hear(heard: Heard) -> None:
    async with running() as (_, feed):
        fill()
        feed.say(event(PRICES))
        await until(lambda: heard.calls)
        assert heard.names() == ["tables"]
        assert heard.stored == [{"other"}]
        given = heard.calls[0][1]
        assert given["tables"] == {PRICES}
        assert given["models"] == frozenset()
        assert given["using"] == "default"
        assert given["batch"].payloads() == (PRICES,)


async def test_model_changed_fires_once_for_each_model(heard: Heard) -> None:
    async with running() as (_, feed):
        feed.say(event("public.auth_user", 3), "public.auth_group", "public.unknown")
        await until(lambda: len(heard.calls) == 3)
    assert heard.calls[0][1]["models"] == {User, Group}
    sent = {given["sender"]: given["event"] for name, given in heard.calls if name == "model"}
    assert sent[User].keys == {(3,)}
    assert sent[Group].keys is None


async def test_a_receiver_that_raises_stops_nobody(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(**given: Any) -> None:
        msg = "receiver trouble"
        raise RuntimeError(msg)

    tables_changed.connect(bad)
    # Receivers are called in the order in which they were connected.
    tables_changed.disconnect(heard.tables)
    tables_changed.connect(heard.tables)
    try:
        async with running() as (daemon, feed):
            feed.say(PRICES)
            feed.say(PRICES, lsn=7)
            await until(lambda: daemon.status().lsn == 7)
    finally:
        tables_changed.disconnect(bad)
    assert heard.names()
    assert "receiver trouble" in caplog.text


async def test_a_receiver_that_blocks_holds_up_no_deletes_and_hears_it_merged(heard: Heard) -> None:
    release = threading.Event()

    def slow(**given: Any) -> None:
        release.wait(10)

    async with running() as (_, feed):
        tables_changed.connect(slow)
        try:
            fill()
            feed.say(event(PRICES, 1))
            await until(lambda: heard.calls)
            for pk in (1, 2):
                feed.say(event(PRICES, pk))
            await until(lambda: stored() == {"other"})
            assert len(heard.calls) == 1
        finally:
            release.set()
            tables_changed.disconnect(slow)
        await until(lambda: len(heard.calls) == 2)
    merged: Event = heard.calls[1][1]["batch"].events[0]
    assert merged.keys == frozenset({(1,), (2,)})
    assert merged.count == 2


async def test_an_async_receiver_runs_on_the_daemons_loop() -> None:
    loops = []

    async def receiver(**given: Any) -> None:
        loops.append(asyncio.get_running_loop())

    tables_changed.connect(receiver)
    try:
        async with running() as (_, feed):
            feed.say(PRICES)
            await until(lambda: loops)
    finally:
        tables_changed.disconnect(receiver)
    assert loops == [asyncio.get_running_loop()]
