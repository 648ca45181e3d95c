"""What a feed yields: the last hop of a byte's path, and the only types a consumer needs.

Events are hints to refetch, never facts to apply: they carry no row data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["ANY_NUDGE", "Batch", "Event", "FeedItem", "Key", "KeyValue", "Resync", "ResyncReason"]

KeyValue: TypeAlias = int | bool | str
"""One primary-key column: int for integer types, bool for boolean, and for every other type
the text PostgreSQL prints for it (``DateStyle`` ISO, ``TimeZone`` UTC)."""

Key: TypeAlias = tuple[KeyValue, ...]
"""One row's primary key, its columns in the order of the primary-key index."""

ANY_NUDGE: Final = "*"
"""The payload that stands for own nudges that were too many to be told apart: any may be one."""

ResyncReason: TypeAlias = Literal["connected", "reconnected", "overflow", "failsafe", "handshake"]


@dataclass(frozen=True, slots=True)
class Event:
    """One table moved.

    ``payload`` is the plain, unquoted ``schema.table`` (or the content of an application's own
    nudge, which has no dot), ``first_seen`` the Unix time in seconds at which this client saw the
    first of the merged changes, ``count`` the number of rows. ``keys`` holds the primary keys of
    the rows, or is None when any row of the table may have changed.
    """

    payload: str
    first_seen: float
    count: int = 1
    keys: frozenset[Key] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Committed changes, one event a payload, in the order in which the payloads first arrived.

    ``lsn`` is the end of the newest commit record in the batch (0 if none was reached yet), and
    ``committed_at`` the server's time, in Unix seconds, of the oldest commit in it. Both describe
    the batch and take no part in comparing two.
    """

    events: tuple[Event, ...]
    lsn: int = field(default=0, compare=False)
    committed_at: float | None = field(default=None, compare=False)

    def payloads(self) -> tuple[str, ...]:
        """The payloads of the events, in order."""
        return tuple(event.payload for event in self.events)


@dataclass(frozen=True, slots=True)
class Resync:
    """Reload everything: changes may have been missed, or are too many to tell apart."""

    reason: ResyncReason


FeedItem: TypeAlias = Resync | Batch
