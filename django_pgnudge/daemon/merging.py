"""Merging what waits for receivers: a slow one costs memory per table, never per change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from django_pgnudge.decoding.nudges import is_nudge
from django_pgnudge.events import ANY_NUDGE, Batch, Event
from django_pgnudge.feed.changes import MAX_NUDGES, MAX_REQUESTS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from django.db.models import Model

    from django_pgnudge.daemon.cache_worker import CacheWorker, Outcome

    Submission: TypeAlias = tuple[CacheWorker, asyncio.Future[Outcome]]

MAX_KEYS: Final = 1000
"""Primary keys of one table that are kept apart; past them any row may have changed."""


def merge_events(events: Iterable[Event]) -> tuple[Event, ...]:
    """One event a payload, in the order in which payloads first came."""
    merged: dict[str, Event] = {}
    for event in events:
        before = merged.get(event.payload)
        merged[event.payload] = event if before is None else _merge(before, event)
    return tuple(merged.values())


def bound_nudges(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """The events, with own nudges past the limit merged into one that stands for any."""
    excess = [event.payload for event in events if is_nudge(event.payload)][MAX_NUDGES:]
    if not excess:
        return events
    names = frozenset(excess)
    return rename_events(
        events,
        lambda event: replace(event, payload=ANY_NUDGE) if event.payload in names else event,
    )


def spell_out(
    events: tuple[Event, ...], payloads: Callable[[], Iterable[str]]
) -> tuple[Event, ...]:
    """The events, and of ``payloads`` each own nudge if any may have been sent."""
    any_nudge = next((event for event in events if event.payload == ANY_NUDGE), None)
    if any_nudge is None:
        return events
    named = (replace(any_nudge, payload=payload) for payload in payloads() if is_nudge(payload))
    return merge_events((*events, *named))


def rename_events(events: Iterable[Event], seen_as: Callable[[Event], Event]) -> tuple[Event, ...]:
    """The events under other payloads (a partition's under its root's), merged."""
    return merge_events(map(seen_as, events))


def by_model(
    events: Iterable[Event], seen_by: Callable[[Event], Iterable[tuple[type[Model], Event]]]
) -> list[tuple[type[Model], Event]]:
    """One event a model, and one for each tenant's table of it.

    A table that inherits nudges its parents' models too.
    """
    found: dict[tuple[type[Model], str], Event] = {}
    for event in events:
        for model, seen in seen_by(event):
            before = found.get((model, seen.payload))
            found[model, seen.payload] = seen if before is None else _merge(before, seen)
    return [(model, event) for (model, _), event in found.items()]


def _merge(one: Event, two: Event) -> Event:
    keys = None
    if one.keys is not None and two.keys is not None:
        union = one.keys | two.keys
        keys = union if len(union) <= MAX_KEYS else None
    return Event(
        payload=one.payload,
        first_seen=min(one.first_seen, two.first_seen),
        count=one.count + two.count,
        keys=keys,
    )


@dataclass(slots=True)
class Pending:
    """What receivers have not been told yet, and the deletes they wait for."""

    reasons: list[str] = field(default_factory=list)
    batch: Batch | None = None
    submissions: list[Submission] = field(default_factory=list)
    requests: dict[str, None] = field(default_factory=dict)
    fires: bool = False
    """Whether rules fire for the batch."""

    def __bool__(self) -> bool:
        return bool(self.reasons or self.batch or self.requests)

    def add_reason(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def add_requests(self, requests: Iterable[str]) -> None:
        """Past the limit they stay unanswered, which says nothing wrong."""
        for request in requests:
            if len(self.requests) < MAX_REQUESTS:
                self.requests[request] = None

    def add_batch(self, batch: Batch, *, fires: bool = False) -> None:
        self.fires = self.fires or fires
        if self.batch is None:
            self.batch = batch
            return
        times = [t for t in (self.batch.committed_at, batch.committed_at) if t is not None]
        self.batch = Batch(
            events=bound_nudges(merge_events((*self.batch.events, *batch.events))),
            lsn=max(self.batch.lsn, batch.lsn),
            committed_at=min(times, default=None),
        )
