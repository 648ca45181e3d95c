from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge import Batch, Event, Resync
from django_pgnudge.errors import DecodeError
from django_pgnudge.feed.coalescer import Coalescer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def make(max_tables: int = 100, max_keys: int = 10) -> Coalescer:
    return Coalescer(max_tables=max_tables, max_keys=max_keys, clock=Clock())


def transact(coalescer: Coalescer, xid: int, *rows: Any, lsn: int = 0, at: float = 5.0) -> None:
    coalescer.begin(xid)
    for payload, count, keys in rows:
        coalescer.rows(payload, count, keys)
    coalescer.commit(lsn or xid, at)


def test_a_transaction_is_one_event_a_table_in_order_of_arrival():
    coalescer = make()
    transact(coalescer, 1, ("b.x", 3, [(1,)]), ("a.y", 1, None), ("b.x", 2, [(2,)]), lsn=7)
    assert coalescer.release()
    batch = coalescer.take()
    assert batch == Batch(
        (Event("b.x", 102.0, 5, frozenset({(1,), (2,)})), Event("a.y", 103.0, 1, None))
    )
    assert isinstance(batch, Batch)
    assert (batch.lsn, batch.committed_at) == (7, 5.0)
    assert batch.payloads() == ("b.x", "a.y")
    assert coalescer.take() is None


def test_transactions_merge_until_they_are_taken():
    coalescer = make()
    for xid in range(1, 501):
        transact(coalescer, xid, ("public.t", 1, [(xid % 3,)]), at=1000.0 - xid)
        coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert [(e.count, e.keys) for e in batch.events] == [(500, frozenset({(0,), (1,), (2,)}))]
    assert batch.lsn == 500
    assert batch.committed_at == 500.0, "the oldest commit's"
    assert batch.events[0].first_seen == 102.0


def test_nothing_is_available_before_it_is_released():
    coalescer = make()
    transact(coalescer, 1, ("public.t", 1, None))
    assert not coalescer.ready
    assert coalescer.take() is None
    assert not coalescer.release(lambda transaction: False)
    assert coalescer.take() is None
    assert coalescer.release(lambda transaction: True)
    assert coalescer.take() is not None


def test_a_held_transaction_delays_no_other():
    coalescer = make()
    transact(coalescer, 1, ("public.slow", 1, None))
    transact(coalescer, 2, ("public.fast", 1, None))
    assert coalescer.release(lambda transaction: transaction.xid == 2)
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert batch.payloads() == ("public.fast",)
    assert [transaction.xid for transaction in coalescer.held] == [1]
    assert coalescer.release(lambda transaction: True)
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert batch.payloads() == ("public.slow",)


def test_too_many_keys_mean_any_row():
    coalescer = make(max_keys=3)
    transact(coalescer, 1, ("public.t", 3, [(1,), (2,), (3,)]))
    coalescer.release()
    transact(coalescer, 2, ("public.t", 1, [(3,)]))
    coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert batch.events[0].keys == {(1,), (2,), (3,)}
    transact(coalescer, 3, ("public.t", 4, [(1,), (2,), (3,), (4,)]))
    transact(coalescer, 4, ("public.t", 1, [(5,)]))
    coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert (batch.events[0].keys, batch.events[0].count) == (None, 5)


def test_too_many_tables_mean_resync_and_counting_starts_over():
    coalescer = make(max_tables=2)
    transact(coalescer, 1, *[(f"public.t{n}", 1, None) for n in range(3)])
    coalescer.release()
    transact(coalescer, 2, ("public.t", 1, None))
    coalescer.release()
    assert coalescer.take() == Resync("overflow")
    assert coalescer.take() is None
    transact(coalescer, 3, ("public.t", 1, None))
    coalescer.release()
    assert isinstance(coalescer.take(), Batch)


def test_too_many_tables_over_several_transactions_mean_resync():
    coalescer = make(max_tables=2)
    for xid in range(3):
        transact(coalescer, xid, (f"public.t{xid}", 1, None))
    coalescer.release()
    assert coalescer.take() == Resync("overflow")


def test_an_overflow_is_held_like_any_transaction():
    coalescer = make(max_tables=1)
    transact(coalescer, 1, ("public.a", 1, None), ("public.b", 1, None))
    assert not coalescer.release(lambda transaction: False)
    assert coalescer.take() is None
    coalescer.release(lambda transaction: True)
    assert coalescer.take() == Resync("overflow")


def test_an_empty_transaction_wakes_nobody():
    coalescer = make()
    transact(coalescer, 1)
    assert not coalescer.release()
    assert coalescer.held == []


def test_an_open_transaction_nudges_whole_tables_early_and_its_rest_at_its_end():
    coalescer = make()
    coalescer.begin(1)
    coalescer.rows("public.big", 10, [(1,)])
    assert coalescer.release_open()
    early = coalescer.take()
    assert isinstance(early, Batch)
    assert early.events[0].keys is None
    assert early.events[0].count == 10
    assert (early.lsn, early.committed_at) == (0, None)
    coalescer.rows("public.big", 5, [(2,)])
    coalescer.commit(9, 5.0)
    coalescer.release()
    rest = coalescer.take()
    assert isinstance(rest, Batch)
    assert (rest.events[0].count, rest.events[0].keys) == (5, {(2,)})


def test_nothing_is_released_early_when_no_transaction_is_open():
    coalescer = make()
    assert not coalescer.release_open()
    coalescer.begin(1)
    assert not coalescer.release_open()


def test_an_emitted_message_is_an_event_of_its_own():
    coalescer = make()
    coalescer.begin(1)
    coalescer.message("prices")
    coalescer.message("prices")
    coalescer.commit(1, 5.0)
    coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert [(e.payload, e.count, e.keys) for e in batch.events] == [("prices", 2, None)]


@pytest.mark.parametrize(
    "steps",
    [
        [("rows", "public.t", 1, None)],
        [("message", "prices")],
        [("commit", 1, 5.0)],
        [("begin", 1), ("begin", 2)],
    ],
)
def test_what_stands_outside_a_transaction_is_an_error(steps):
    coalescer = make()
    with pytest.raises(DecodeError):
        for name, *args in steps:
            getattr(coalescer, name)(*args)


def test_a_reset_forgets_what_was_not_released_and_keeps_what_was():
    coalescer = make()
    transact(coalescer, 1, ("public.kept", 1, None))
    coalescer.release()
    transact(coalescer, 2, ("public.held", 1, None))
    coalescer.begin(3)
    coalescer.reset()
    assert coalescer.held == []
    assert coalescer.open is None
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert batch.payloads() == ("public.kept",)


def test_forgotten_keys_are_of_any_row_wherever_they_wait():
    coalescer = make()
    change: Any = ("a.x", 1, [(1,)])
    transact(coalescer, 1, change, ("b.y", 1, [(1,)]))
    coalescer.release()
    transact(coalescer, 2, change)
    coalescer.stream_start(3)
    coalescer.stream_made_by(4)
    coalescer.rows(*change)
    coalescer.stream_stop()
    coalescer.begin(5)
    coalescer.rows(*change)
    coalescer.forget_keys({"a.x", "c.z"})
    coalescer.commit(5, 5.0)
    coalescer.stream_commit(3, 6, 6.0)
    ready = coalescer.take()
    assert isinstance(ready, Batch)
    assert [event.keys for event in ready.events] == [None, frozenset({(1,)})]
    assert len(coalescer.held) == 3
    for _ in range(3):
        coalescer.release(lambda transaction: transaction is coalescer.held[0])
        batch = coalescer.take()
        assert isinstance(batch, Batch)
        assert [event.keys for event in batch.events] == [None]
    transact(coalescer, 7, change)
    coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert batch.events[0].keys == {(1,)}, "what comes from there on has them again"


def test_watched_xids_are_noted_as_they_begin():
    coalescer = make()
    transact(coalescer, 1)
    assert not coalescer.has_streamed(1)
    coalescer.watch_xids()
    transact(coalescer, 2)
    transact(coalescer, 3)
    coalescer.watch_xids(frozenset({2, 4, 5}))
    transact(coalescer, 4)
    transact(coalescer, 6)
    assert [xid for xid in range(8) if coalescer.has_streamed(xid)] == [2, 4]
    coalescer.stop_watching_xids()
    assert not coalescer.has_streamed(2)


rows = st.tuples(
    st.sampled_from(["a.a", "a.b", "b.a", "b.b"]),
    st.integers(1, 5),
    st.none() | st.lists(st.tuples(st.integers(0, 6)), max_size=5),
)


@given(
    st.lists(st.tuples(st.lists(rows, max_size=6), st.booleans(), st.booleans()), max_size=20),
)
def test_nothing_is_lost_and_nothing_is_invented(history):
    """Whatever is held, released and taken when: rows, tables and keys come out as they went in."""
    coalescer = make(max_keys=6)
    went_in: dict[str, int] = {}
    keys_in: dict[str, set[tuple[int]] | None] = {}
    taken: list[Batch] = []

    def take() -> None:
        item = coalescer.take()
        if item is not None:
            assert isinstance(item, Batch)
            taken.append(item)

    for xid, (changes, visible, consumer_asks) in enumerate(history):
        transact(coalescer, xid, *changes)
        for payload, count, keys in changes:
            went_in[payload] = went_in.get(payload, 0) + count
            known = keys_in.setdefault(payload, set())
            keys_in[payload] = None if keys is None or known is None else known | set(keys)
        coalescer.release((lambda transaction: True) if visible else (lambda transaction: False))
        if consumer_asks:
            take()
    coalescer.release()
    take()

    came_out: dict[str, int] = {}
    for batch in taken:
        assert len(set(batch.payloads())) == len(batch.events)
        for event in batch.events:
            came_out[event.payload] = came_out.get(event.payload, 0) + event.count
    assert came_out == went_in
    for payload, expected in keys_in.items():
        found = [e.keys for batch in taken for e in batch.events if e.payload == payload]
        if expected is None:
            assert None in found
        elif None not in found:
            assert set().union(*(keys for keys in found if keys is not None)) == expected
        else:
            assert len(expected) > 6, "too many for one batch is the only reason to forget keys"
