"""merging: what waits for a receiver that is slow is bounded, own nudges too."""

from __future__ import annotations

from django_pgnudge.daemon.merging import Pending, spell_out
from django_pgnudge.events import ANY_NUDGE, Batch
from django_pgnudge.feed.changes import MAX_NUDGES, MAX_REQUESTS
from tests.fakes import event


def test_own_nudges_that_wait_for_receivers_are_merged_past_the_limit() -> None:
    pending = Pending()
    for start in range(0, 5000, 500):
        names = [f"nudge {number}" for number in range(start, start + 500)]
        pending.add_batch(Batch((*map(event, names), event("public.t", start))))
    assert pending.batch is not None
    found = {each.payload: each for each in pending.batch.events}
    assert len(found) == MAX_NUDGES + 2
    assert found[ANY_NUDGE].count == 5000 - MAX_NUDGES
    assert found["public.t"].keys == frozenset((start,) for start in range(0, 5000, 500))


def test_requests_that_wait_for_receivers_are_merged_and_bounded() -> None:
    pending = Pending()
    for number in (*range(MAX_REQUESTS), 0, 1, 7777):
        pending.add_requests([f"pgnudge:settle:{number:032x}"])
    assert len(pending.requests) == MAX_REQUESTS


def test_where_any_own_nudge_may_have_been_sent_the_named_ones_were() -> None:
    events = (event("public.t", 1), event(ANY_NUDGE), event("prices"))
    found = spell_out(events, lambda: ("prices", "rates", "public.u"))
    assert [each.payload for each in found] == ["public.t", ANY_NUDGE, "prices", "rates"]
    assert spell_out(events[:1], lambda: ("prices",)) == events[:1]
