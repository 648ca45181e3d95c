"""Streamed transactions in the coalescer: who changed what, and what of it is nudged."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge import Batch, Resync
from django_pgnudge.decoding.nudges import SETTLE_PREFIX
from django_pgnudge.errors import DecodeError
from django_pgnudge.events import ANY_NUDGE
from django_pgnudge.feed.changes import MAX_NUDGES, MAX_PARTS, MAX_REQUESTS
from django_pgnudge.feed.coalescer import Coalescer
from tests.feed.test_coalescer import make, transact


def block(coalescer: Coalescer, xid: int, *rows: tuple[Any, ...]) -> None:
    """A block with these changes: (subtransaction, payload, count, keys)."""
    coalescer.stream_start(xid)
    for made_by, payload, count, keys in rows:
        coalescer.stream_made_by(made_by)
        coalescer.rows(payload, count, keys)
    coalescer.stream_stop()


def taken(coalescer: Coalescer) -> dict[str, tuple[int, Any]]:
    """What is available after everything that has committed is visible."""
    coalescer.release()
    batch = coalescer.take()
    if batch is None:
        return {}
    assert isinstance(batch, Batch)
    return {event.payload: (event.count, event.keys) for event in batch.events}


def test_a_streamed_transaction_is_held_when_its_commit_has_come():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 2, [(1,)]), (9, "public.u", 1, None))
    assert taken(coalescer) == {}
    block(coalescer, 8, (8, "public.t", 1, [(2,)]))
    coalescer.stream_commit(8, 77, 5.0)
    assert [(each.xid, each.lsn) for each in coalescer.held] == [(8, 77)]
    assert not coalescer.streams
    coalescer.release()
    batch = coalescer.take()
    assert isinstance(batch, Batch)
    assert (batch.lsn, batch.committed_at) == (77, 5.0)
    assert [(e.payload, e.count, e.keys) for e in batch.events] == [
        ("public.t", 3, {(1,), (2,)}),
        ("public.u", 1, None),
    ]


def test_tables_stand_in_the_order_in_which_they_were_first_changed():
    coalescer = make()
    block(coalescer, 8, (9, "b.b", 1, None), (8, "a.a", 1, None), (9, "c.c", 1, None))
    coalescer.stream_commit(8, 77, 5.0)
    assert list(taken(coalescer)) == ["b.b", "a.a", "c.c"]


def test_an_empty_streamed_transaction_wakes_nobody():
    coalescer = make()
    block(coalescer, 8)
    coalescer.stream_commit(8, 77, 5.0)
    assert coalescer.held == []


def test_what_is_rolled_back_nudges_nothing():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 1, None), (9, "public.u", 1, None))
    block(coalescer, 10, (10, "public.v", 1, None))
    coalescer.stream_abort(8, 9)
    coalescer.stream_abort(10, 10)
    coalescer.stream_abort(99, 99)
    coalescer.stream_commit(8, 77, 5.0)
    assert taken(coalescer) == {"public.t": (1, None)}
    assert not coalescer.streams


def test_whole_transactions_come_between_the_blocks():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 1, None))
    transact(coalescer, 9, ("public.u", 1, None))
    assert taken(coalescer) == {"public.u": (1, None)}
    block(coalescer, 8, (8, "public.t", 1, None))
    coalescer.stream_commit(8, 77, 5.0)
    assert taken(coalescer) == {"public.t": (2, None)}


def test_a_visible_one_tells_each_table_once_and_the_rest_at_its_commit():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 2, [(1,)]), (9, "public.u", 1, [(1,)]))
    (streamed,) = coalescer.streams.values()
    assert streamed.untold == {8, 9}
    assert coalescer.release_streamed(streamed, {8})
    assert taken(coalescer) == {"public.t": (2, None)}
    assert streamed.untold == {9}, "not known to have committed"
    block(coalescer, 8, (8, "public.t", 3, [(2,)]), (8, "public.v", 1, [(3,)]))
    assert streamed.untold == {8, 9}
    coalescer.release_streamed(streamed, {8, 9})
    assert taken(coalescer) == {"public.u": (1, None), "public.v": (1, None)}
    assert streamed.untold == frozenset(), "what comes of a table that was told is covered"
    coalescer.stream_commit(8, 77, 5.0)
    assert taken(coalescer) == {"public.t": (3, {(2,)})}


def test_one_known_to_be_rolled_back_is_not_asked_for_again():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 1, None))
    (streamed,) = coalescer.streams.values()
    assert not coalescer.release_streamed(streamed, frozenset())
    block(coalescer, 8, (8, "public.u", 1, None))
    assert streamed.untold == frozenset()
    coalescer.stream_abort(8, 8)
    assert taken(coalescer) == {}


def test_one_whose_commit_has_come_meanwhile_is_left_to_its_commit():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 1, None))
    (streamed,) = coalescer.streams.values()
    coalescer.stream_commit(8, 77, 5.0)
    assert not coalescer.release_streamed(streamed, {8})
    assert taken(coalescer) == {"public.t": (1, None)}


def test_a_hundred_thousand_savepoints_are_kept_in_bounds():
    coalescer = make()
    coalescer.stream_start(8)
    (streamed,) = coalescer.streams.values()
    for subxid in range(100_000):
        coalescer.stream_made_by(1000 + subxid)
        coalescer.rows(f"public.t{subxid % 3}", 1, [(subxid,)])
        assert len(streamed._parts) <= MAX_PARTS  # noqa: SLF001 - it is bounded
    coalescer.stream_stop()
    assert list(streamed._parts) == [8]  # noqa: SLF001 - it is bounded
    coalescer.stream_abort(8, 1000)
    coalescer.stream_abort(8, 90_000)
    coalescer.stream_commit(8, 77, 5.0)
    counts = {payload: count for payload, (count, _) in taken(coalescer).items()}
    assert sum(counts.values()) == 100_000, "too much, never too little"


def test_rows_of_the_transaction_itself_are_kept_when_parts_are_merged():
    coalescer = make()
    rows = [(8 + n, "public.t", 1, None) for n in range(MAX_PARTS + 1)]
    block(coalescer, 8, *rows, (8, "public.u", 1, None))
    coalescer.stream_commit(8, 77, 5.0)
    assert taken(coalescer) == {"public.t": (MAX_PARTS + 1, None), "public.u": (1, None)}


def test_more_tables_in_all_than_a_transaction_may_have_are_an_overflow():
    coalescer = make(max_tables=10)
    for made_by in range(3):
        block(coalescer, 8, *((8 + made_by, f"s{made_by}.t{n}", 1, None) for n in range(5)))
    (streamed,) = coalescer.streams.values()
    assert sum(len(part.pending) for part in streamed._parts.values()) <= 10  # noqa: SLF001 - it is bounded
    coalescer.stream_commit(8, 77, 5.0)
    coalescer.release()
    assert coalescer.take() == Resync("overflow")


def test_an_overflow_of_a_visible_one_is_told_early():
    coalescer = make(max_tables=2)
    block(coalescer, 8, *((8, f"public.t{n}", 1, None) for n in range(3)))
    (streamed,) = coalescer.streams.values()
    assert coalescer.release_streamed(streamed, {8})
    assert coalescer.take() == Resync("overflow")
    assert streamed.untold == frozenset()


def test_how_many_tables_are_known_to_be_told_is_bounded():
    coalescer = make(max_tables=5)
    coalescer.begin(1)
    for n in range(100):
        coalescer.rows(f"public.t{n}", 1, None)
        coalescer.release_open()
        coalescer.take()
        assert coalescer.open is not None
        assert len(coalescer.open.told) <= 5


def test_a_table_is_told_early_once():
    coalescer = make()
    coalescer.begin(1)
    coalescer.rows("public.t", 1, [(1,)])
    coalescer.release_open()
    assert taken(coalescer) == {"public.t": (1, None)}
    coalescer.rows("public.t", 4, [(2,)])
    coalescer.rows("public.u", 1, [(2,)])
    coalescer.release_open()
    assert taken(coalescer) == {"public.u": (1, None)}
    coalescer.commit(9, 5.0)
    assert taken(coalescer) == {"public.t": (4, {(2,)})}


def test_a_streamed_xid_is_noted_when_its_commit_has_come():
    coalescer = make()
    coalescer.watch_xids()
    block(coalescer, 8, (8, "public.t", 1, None))
    block(coalescer, 9, (9, "public.t", 1, None))
    assert not coalescer.has_streamed(8)
    coalescer.stream_commit(8, 77, 5.0)
    coalescer.stream_abort(9, 9)
    assert coalescer.has_streamed(8)
    assert not coalescer.has_streamed(9)


def test_a_reset_forgets_what_was_streamed():
    coalescer = make()
    block(coalescer, 8, (8, "public.t", 1, None))
    coalescer.stream_start(8)
    coalescer.reset()
    assert not coalescer.streams
    transact(coalescer, 1, ("public.u", 1, None))
    assert taken(coalescer) == {"public.u": (1, None)}


@pytest.mark.parametrize(
    "steps",
    [
        [("stream_stop",)],
        [("stream_made_by", 8)],
        [("stream_commit", 8, 1, 5.0)],
        [("stream_start", 8), ("stream_start", 8)],
        [("stream_start", 8), ("begin", 9)],
        [("stream_start", 8), ("commit", 1, 5.0)],
        [("stream_start", 8), ("stream_commit", 8, 1, 5.0)],
        [("stream_start", 8), ("stream_abort", 8, 8)],
        [("begin", 8), ("stream_start", 9)],
        [("begin", 8), ("stream_abort", 9, 9)],
        [("begin", 8), ("stream_stop",)],
        [("stream_start", 8), ("stream_stop",), ("rows", "public.t", 1, None)],
    ],
)
def test_what_cannot_stand_there_is_an_error(steps):
    coalescer = make()
    with pytest.raises(DecodeError):
        for name, *args in steps:
            getattr(coalescer, name)(*args)


TOPS = (100, 200, 300)
changes = st.tuples(st.just("rows"), st.sampled_from(TOPS), st.integers(0, 4), st.integers(0, 3))
step = st.one_of(
    changes,
    changes,
    st.tuples(st.just("abort"), st.sampled_from(TOPS), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("early"), st.sampled_from(TOPS), st.just(0), st.just(0)),
    st.tuples(st.just("whole"), st.sampled_from(TOPS), st.just(0), st.integers(0, 3)),
)


@given(
    st.lists(step, max_size=40),
    st.fixed_dictionaries({xid: st.booleans() for xid in TOPS}),
    st.sets(st.tuples(st.sampled_from(TOPS), st.integers(1, 4))),
)
def test_exactly_what_committed_comes_out(history, committed, undone):
    """``committed`` says how transactions end, ``undone`` which of their subtransactions abort."""
    coalescer = make()
    expected: Counter[str] = Counter()
    came: Counter[str] = Counter()
    streams: dict[int, Counter[str]] = {}
    visible: set[int] = set()
    aborted: set[tuple[int, int]] = set()

    def take() -> None:
        for payload, (count, _) in taken(coalescer).items():
            came[payload] += count

    for what, xid, sub, table in history:
        payload = f"s{xid}.t{table}"
        match what:
            case "rows" if (xid, sub) not in aborted:
                block(coalescer, xid, (xid + sub, payload, 1, [(sub,)]))
                streams.setdefault(xid, Counter())[payload] += (xid, sub) not in undone
            case "abort" if (xid, sub) in undone and xid in streams:
                coalescer.stream_abort(xid, xid + sub)
                aborted.add((xid, sub))
            case "early" if xid in streams:
                alive = {xid + n for n in range(5) if (xid, n) not in undone}
                coalescer.release_streamed(
                    coalescer.streams[xid], alive if committed[xid] else frozenset()
                )
                visible |= {xid} if committed[xid] else set()
            case "whole":
                transact(coalescer, 7, ("whole.t", 1, None))
                expected["whole.t"] += 1
        take()
    for xid, rows in streams.items():
        for sub in range(1, 5):
            if (xid, sub) in undone or not committed[xid]:
                coalescer.stream_abort(xid, xid + sub)
        if committed[xid]:
            coalescer.stream_commit(xid, 1, 5.0)
            expected += rows
        else:
            coalescer.stream_abort(xid, xid)
    take()
    assert came == expected
    assert not coalescer.streams


# Own nudges have bounds of their own: whoever may write a message could use up those of tables.


def requests(count: int) -> list[tuple[str, int, Any]]:
    return [(f"{SETTLE_PREFIX}{number:032x}", 1, None) for number in range(count)]


def test_own_nudges_past_the_limit_become_one_and_leave_room_for_the_tables():
    coalescer = make(max_tables=2)
    nudges = [(f"nudge {number}", 1, None) for number in range(MAX_NUDGES + 50)]
    transact(coalescer, 1, *nudges, *requests(MAX_REQUESTS + 50), ("a.t", 1, None))
    transact(coalescer, 2, ("nudge 7", 1, None), ("one more", 1, None), ("a.u", 1, [(1,)]))
    found = taken(coalescer)
    assert found.pop("a.t") == (1, None)
    assert found.pop("a.u") == (1, frozenset({(1,)}))
    assert found.pop(ANY_NUDGE) == (51, None)
    assert found.pop("nudge 7") == (2, None)
    assert sum(payload.startswith(SETTLE_PREFIX) for payload in found) == MAX_REQUESTS
    assert len(found) == MAX_REQUESTS + MAX_NUDGES - 1


def test_own_nudges_told_early_leave_room_for_more():
    coalescer = make(max_tables=5000)
    coalescer.begin(1)
    for number in range(MAX_NUDGES):
        coalescer.message(f"nudge {number}")
    for payload, *_ in requests(MAX_REQUESTS):
        coalescer.message(payload)
    coalescer.release_open()
    assert ANY_NUDGE not in taken(coalescer)
    coalescer.message("one more")
    coalescer.message(f"{SETTLE_PREFIX}{'f' * 32}")
    coalescer.commit(1, 1.0)
    assert taken(coalescer) == {"one more": (1, None), f"{SETTLE_PREFIX}{'f' * 32}": (1, None)}


def test_too_many_tables_are_too_many_beside_own_nudges_too():
    coalescer = make(max_tables=2)
    transact(coalescer, 1, ("a", 1, None), ("s.t", 1, None), ("s.u", 1, None), ("s.v", 1, None))
    coalescer.release()
    assert coalescer.take() == Resync("overflow")
