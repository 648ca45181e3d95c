"""mailbox.py: what a consumer takes, in which order, and when it has dealt with it."""

from __future__ import annotations

import asyncio

import pytest

from django_pgnudge.events import Batch, Resync
from django_pgnudge.feed.coalescer import Coalescer
from django_pgnudge.feed.mailbox import Mailbox


@pytest.fixture
def coalescer() -> Coalescer:
    return Coalescer(max_tables=10, max_keys=10)


@pytest.fixture
def mailbox(coalescer: Coalescer) -> Mailbox:
    return Mailbox(coalescer, 0.0)


def commit(coalescer: Coalescer, payload: str = "public.t") -> None:
    coalescer.begin(1)
    coalescer.rows(payload, 1, None)
    coalescer.commit(1, 5.0)
    coalescer.release()


async def test_one_resync_covers_any_number_and_comes_before_a_batch(
    mailbox: Mailbox, coalescer: Coalescer
) -> None:
    commit(coalescer)
    mailbox.resync("connected")
    mailbox.resync("failsafe")
    assert await mailbox.take() == Resync("connected")
    assert isinstance(await mailbox.take(), Batch)
    mailbox.closed = True
    with pytest.raises(StopAsyncIteration):
        await mailbox.take()


async def test_the_first_error_is_raised_once_behind_what_waits(mailbox: Mailbox) -> None:
    mailbox.resync("connected")
    assert mailbox.fail(ZeroDivisionError())
    assert not mailbox.fail(KeyError())
    assert await mailbox.take() == Resync("connected")
    with pytest.raises(ZeroDivisionError):
        await mailbox.take()
    with pytest.raises(StopAsyncIteration):
        await mailbox.take()


async def test_who_waits_is_woken(mailbox: Mailbox, coalescer: Coalescer) -> None:
    taking = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    commit(coalescer)
    assert not taking.done()
    mailbox.wake()
    assert isinstance(await taking, Batch)


async def test_an_item_is_dealt_with_when_the_next_one_is_taken(
    mailbox: Mailbox, coalescer: Coalescer
) -> None:
    commit(coalescer)
    waiting = asyncio.create_task(mailbox.dealt_with(lambda: True))
    await mailbox.take()
    await asyncio.sleep(0)
    assert not waiting.done(), "the consumer works on it"
    taking = asyncio.create_task(mailbox.take())
    assert await waiting
    assert await mailbox.dealt_with(lambda: True), "the consumer waits, and there is nothing"
    taking.cancel()


async def test_the_end_of_the_stream_ends_the_wait_for_the_consumer(mailbox: Mailbox) -> None:
    live = True
    waiting = asyncio.create_task(mailbox.dealt_with(lambda: live))
    await asyncio.sleep(0)
    live = False
    mailbox.check_again()
    assert not await waiting
