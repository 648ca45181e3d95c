"""A releaser's queries, answered by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.feed import release as module
from django_pgnudge.feed.coalescer import Coalescer
from django_pgnudge.feed.queries import Visibility
from django_pgnudge.feed.release import CommitReleaser, Reports, VisibilityReleaser
from django_pgnudge.feed.visibility import Snapshot
from django_pgnudge.wire import LSN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SEES_ALL = Visibility(Snapshot(1000, 1000, frozenset()), None)
SEES_NONE = Visibility(Snapshot(1, 1, frozenset()), None)


class ByHand:
    """A side connection whose queries wait for the test to answer them."""

    def __init__(self) -> None:
        self.queries: list[Callable[[Any], None]] = []
        self.outcomes: list[tuple[frozenset[int], Callable[[Any], None]]] = []

    def ask_visibility(self, answered: Callable[[Any], None]) -> None:
        self.queries.append(answered)

    def ask_outcomes(
        self, snapshot: Snapshot, xids: Iterable[int], answered: Callable[[Any], None]
    ) -> None:
        self.outcomes.append((frozenset(xids), answered))


class Setting:
    """A releaser with all it needs."""

    def __init__(self, *, max_batch_wait: float = 0.0, blind: float = 30.0) -> None:
        self.side = ByHand()
        self.coalescer = Coalescer(max_tables=10, max_keys=10)
        self.woken = 0
        self.aborted: list[Exception] = []
        self.bugs: list[Exception] = []
        self.releaser = VisibilityReleaser(
            self.coalescer,
            Reports(self.wake, self.aborted.append, self.bugs.append),
            max_batch_wait,
            self.side,  # type: ignore[arg-type]
            blind=blind,
        )
        self.releaser.start()

    def wake(self) -> None:
        self.woken += 1

    def commit(self, xid: int, *, attend: bool = True) -> None:
        self.coalescer.begin(xid)
        self.coalescer.rows(f"public.t{xid}", 1, None)
        self.coalescer.commit(xid, 5.0)
        if attend:
            self.releaser.attend()

    def block(self, xid: int, payload: str = "public.t") -> None:
        self.coalescer.stream_start(xid)
        self.coalescer.rows(payload, 1, None)
        self.coalescer.stream_stop()
        self.releaser.attend()

    def answer(self, seen: Visibility | Exception) -> None:
        (answered,) = self.side.queries
        self.side.queries.clear()
        answered(seen)

    @property
    def payloads(self) -> tuple[str, ...]:
        batch = self.coalescer.take()
        return () if batch is None else batch.payloads()  # type: ignore[union-attr]


@pytest.fixture
async def setting() -> Any:
    made = Setting()
    yield made
    made.releaser.stop()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers fire as soon as the event loop turns."""
    monkeypatch.setattr(module, "_RECHECK", (0.0, 0.0))
    monkeypatch.setattr(module, "_RETRY", (0.0, 0.0))
    monkeypatch.setattr(module, "_POLL", 0.0)


async def asked(setting: Setting) -> None:
    async with asyncio.timeout(10):
        while not setting.side.queries:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_commit_is_asked_for_before_attend_returns_and_released_by_the_answer(setting):
    setting.commit(5)
    assert len(setting.side.queries) == 1
    setting.answer(SEES_ALL)
    assert setting.woken == 1
    assert setting.payloads == ("public.t5",)
    assert not setting.side.queries, "nothing waits"


async def test_one_query_is_on_its_way_at_a_time(setting):
    for xid in range(5, 10):
        setting.commit(xid)
    assert len(setting.side.queries) == 1


async def test_a_result_releases_what_came_after_its_query(setting):
    setting.commit(5)
    setting.commit(6)
    setting.answer(SEES_ALL)
    assert setting.payloads == ("public.t5", "public.t6")
    assert not setting.side.queries


async def test_what_came_after_the_query_and_is_not_seen_is_asked_for_at_once(setting):
    setting.commit(5)
    setting.commit(6)
    setting.answer(Visibility(Snapshot(6, 6, frozenset()), None))
    assert setting.payloads == ("public.t5",)
    assert len(setting.side.queries) == 1
    setting.answer(SEES_ALL)
    assert setting.payloads == ("public.t6",)


async def test_what_is_not_seen_is_asked_for_again_later(setting):
    setting.commit(5)
    setting.answer(SEES_NONE)
    assert not setting.side.queries
    await asked(setting)
    setting.answer(SEES_ALL)
    assert setting.payloads == ("public.t5",)


async def test_a_commit_is_not_kept_waiting_by_one_that_is_not_seen(setting, monkeypatch):
    monkeypatch.setattr(module, "_RECHECK", (3600.0, 3600.0))
    held = Setting()
    held.commit(5)
    held.answer(SEES_NONE)
    held.releaser.attend()
    assert not held.side.queries, "nothing new came"
    held.commit(6)
    held.answer(Visibility(Snapshot(5, 7, frozenset({5})), None))
    assert held.payloads == ("public.t6",)
    held.releaser.stop()


async def test_before_the_start_and_after_the_stop_nothing_is_asked_or_released(setting):
    setting.commit(5)
    setting.releaser.stop()
    setting.answer(SEES_ALL)
    setting.releaser.attend()
    assert not setting.side.queries
    assert setting.payloads == ()


async def test_a_failed_query_holds_everything_and_is_not_repeated_by_every_commit(setting):
    setting.commit(5)
    setting.answer(ConnectionLostError("gone"))
    for xid in range(6, 10):
        setting.commit(xid)
    assert not setting.side.queries, "it is asked again after a pause"
    assert setting.payloads == ()
    await asked(setting)
    setting.answer(SEES_ALL)
    assert len(setting.payloads) == 5


async def test_without_answers_for_too_long_the_stream_is_given_up(no_pauses):
    setting = Setting(blind=0.0)
    setting.commit(5)
    setting.answer(ConnectionLostError("gone"))
    assert "could not read a snapshot" in str(setting.aborted)
    setting.releaser.stop()


async def test_without_answers_and_with_nothing_held_the_stream_goes_on(no_pauses):
    setting = Setting(blind=0.0)
    setting.block(8)
    for _ in range(3):
        await asked(setting)
        setting.answer(ConnectionLostError("gone"))
    assert not setting.aborted
    setting.releaser.stop()


@pytest.mark.parametrize("outcome", [False, True])
async def test_a_bug_reaches_whoever_is_told_of_bugs(setting, monkeypatch, outcome):
    def broken(*args: object) -> bool:
        raise ZeroDivisionError

    if outcome:
        setting.commit(5)
        setting.answer(ZeroDivisionError())
    else:
        setting.commit(5)
        monkeypatch.setattr(setting.coalescer, "release", broken)
        setting.answer(SEES_ALL)
    assert [type(each) for each in setting.bugs] == [ZeroDivisionError]


async def test_a_transaction_still_arriving_is_told_once_it_is_seen(no_pauses):
    setting = Setting()
    setting.coalescer.begin(5)
    setting.coalescer.rows("public.big", 1, None)
    setting.releaser.attend()
    setting.answer(SEES_NONE)
    assert setting.payloads == ()
    await asked(setting)
    setting.answer(SEES_ALL)
    assert setting.payloads == ("public.big",)
    setting.coalescer.rows("public.big", 1, None)
    setting.releaser.attend()
    assert not setting.side.queries, "the table was told"
    setting.releaser.stop()


async def test_a_transaction_that_has_not_been_arriving_for_long_is_left_alone():
    setting = Setting(max_batch_wait=3600)
    setting.coalescer.begin(5)
    setting.coalescer.rows("public.big", 1, None)
    setting.releaser.attend()
    assert not setting.side.queries
    setting.releaser.stop()


async def test_a_streamed_transaction_is_told_when_it_has_ended_and_committed(no_pauses):
    setting = Setting()
    setting.block(8)
    setting.answer(SEES_NONE)
    assert not setting.side.outcomes, "it has not ended"
    await asked(setting)
    setting.answer(SEES_ALL)
    ((xids, answered),) = setting.side.outcomes
    assert xids == {8}
    assert setting.payloads == (), "it may have been rolled back"
    answered(frozenset({8}))
    assert setting.woken
    assert setting.payloads == ("public.t",)
    setting.releaser.stop()


async def test_how_a_streamed_transaction_ended_is_asked_once_at_a_time(no_pauses):
    setting = Setting()
    setting.block(8)
    for _ in range(3):
        await asked(setting)
        setting.answer(SEES_ALL)
    assert len(setting.side.outcomes) == 1
    setting.side.outcomes.pop()[1](ConnectionLostError("gone"))
    await asked(setting)
    setting.answer(SEES_ALL)
    assert len(setting.side.outcomes) == 1, "it is asked again"
    setting.side.outcomes[0][1](ZeroDivisionError())
    assert len(setting.bugs) == 1
    setting.releaser.stop()


async def test_on_a_standby_a_streamed_transaction_waits_for_its_commit(no_pauses):
    setting = Setting()
    setting.block(8)
    setting.answer(Visibility(SEES_ALL.snapshot, LSN(10**9)))
    assert not setting.side.outcomes
    setting.releaser.attend()
    assert not setting.side.queries
    setting.coalescer.stream_commit(8, 77, 5.0)
    setting.releaser.attend()
    setting.answer(Visibility(SEES_NONE.snapshot, LSN(77)))
    assert setting.payloads == ("public.t",)
    setting.releaser.stop()


async def test_trust_takes_what_arrives_for_visible_but_for_streams():
    woken: list[int] = []
    coalescer = Coalescer(max_tables=10, max_keys=10)
    reports = Reports(lambda: woken.append(1), woken.append, woken.append)  # type: ignore[arg-type]
    releaser = CommitReleaser(coalescer, reports, 0.0)
    coalescer.stream_start(8)
    coalescer.rows("public.streamed", 1, None)
    coalescer.stream_stop()
    releaser.attend()
    assert not woken
    coalescer.begin(9)
    coalescer.rows("public.whole", 1, None)
    releaser.attend()
    assert woken
    batch = coalescer.take()
    assert batch is not None
    assert batch.payloads() == ("public.whole",)  # type: ignore[union-attr]
    releaser.stop()
