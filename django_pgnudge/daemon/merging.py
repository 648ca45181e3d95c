"""Merging what waits for receivers: a slow one costs memory per table, never per change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from django_pgnudge.events import Batch, Event

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from django.db.models import Model

    from django_pgnudge.daemon.workers import CacheWorker, Outcome

    Delete: TypeAlias = tuple[CacheWorker, asyncio.Future[Outcome]]

__all__ = ["Pending", "by_model", "merge_events", "rename_events"]

MAX_KEYS: Final = 1000
"""Primary keys of one table that are kept apart; past them any row may have changed."""


def merge_events(events: Iterable[Event]) -> tuple[Event, ...]:
    """One event a payload, in the order in which payloads first came."""
    merged: dict[str, Event] = {}
    for event in events:
        known = merged.get(event.payload)
        merged[event.payload] = event if known is None else _merge(known, event)
    return tuple(merged.values())


def rename_events(events: Iterable[Event], seen_as: Callable[[Event], Event]) -> tuple[Event, ...]:
    """The events under other payloads (a partition's under its root's), merged."""
    return merge_events(map(seen_as, events))


def by_model(
    events: Iterable[Event], seen_by: Callable[[Event], Iterable[tuple[type[Model], Event]]]
) -> dict[type[Model], Event]:
    """One event a model; a table that inherits nudges its parents' models too."""
    found: dict[type[Model], Event] = {}
    for event in events:
        for model, seen in seen_by(event):
            known = found.get(model)
            found[model] = seen if known is None else _merge(known, seen)
    return found


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
    deletes: list[Delete] = field(default_factory=list)
    requests: list[tuple[str, Callable[[str], Awaitable[None]]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasons or self.batch or self.requests)

    def add_reason(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def add_batch(self, batch: Batch) -> None:
        if self.batch is None:
            self.batch = batch
            return
        times = [t for t in (self.batch.committed_at, batch.committed_at) if t is not None]
        self.batch = Batch(
            events=merge_events((*self.batch.events, *batch.events)),
            lsn=max(self.batch.lsn, batch.lsn),
            committed_at=min(times, default=None),
        )
