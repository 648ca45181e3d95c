"""What a feed yields: the only types that a consumer needs.

An event tells a consumer to read again. It carries no row data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["ANY_NUDGE", "Batch", "Event", "FeedItem", "Key", "KeyValue", "Resync", "ResyncReason"]

KeyValue: TypeAlias = int | bool | str
"""The value of one primary-key column: int for integer types, bool for boolean, and for every
other type the text that PostgreSQL prints (``DateStyle`` ISO, ``TimeZone`` UTC)."""

Key: TypeAlias = tuple[KeyValue, ...]
"""One row's primary key; its columns are in the order of the primary-key index."""

ANY_NUDGE: Final = "*"
"""The payload that replaces own nudges when there are too many: any own nudge may be meant."""

ResyncReason: TypeAlias = Literal["connected", "reconnected", "overflow", "failsafe", "handshake"]


@dataclass(frozen=True, slots=True)
class Event:
    """Rows of one table changed, or an application sent an own nudge.

    ``payload`` is the plain, unquoted ``schema.table``, or the text of the own nudge, which has no
    dot. ``first_seen`` is the Unix time in seconds at which this client saw the first of the merged
    changes. ``count`` is the number of rows. ``keys`` holds the primary keys of the rows, or is
    None when any row of the table may have changed.
    """

    payload: str
    first_seen: float
    count: int = 1
    keys: frozenset[Key] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Committed changes: one event a payload, in the order in which the payloads first arrived.

    ``lsn`` is the end of the newest commit record in the batch, 0 if it has none yet.
    ``committed_at`` is the server's time of the oldest commit in the batch, in Unix seconds.
    Equality ignores both.
    """

    events: tuple[Event, ...]
    lsn: int = field(default=0, compare=False)
    committed_at: float | None = field(default=None, compare=False)

    def payloads(self) -> tuple[str, ...]:
        """The payloads of the events, in order."""
        return tuple(event.payload for event in self.events)


@dataclass(frozen=True, slots=True)
class Resync:
    """Reload everything: changes may have been missed, or there were too many to list."""

    reason: ResyncReason


FeedItem: TypeAlias = Resync | Batch
