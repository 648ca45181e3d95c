"""What the shop does beside having its keys deleted: it tells the page about it.

The receivers run in ``runnudge``, after the keys of the batch are gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.dispatch import receiver

from django_pgnudge.signals import resynced, tables_changed
from shop import nudges
from shop.deletions import deletions

if TYPE_CHECKING:
    from django_pgnudge.events import Batch, Event

SHOWN_KEYS = 3


def _table(event: Event) -> dict[str, Any]:
    """``rows`` is None where any row may have changed: only of keys it is known how many."""
    rows = None if event.keys is None else len(event.keys)
    return {
        "name": event.payload,
        "rows": rows,
        "changes": event.count,
        "keys": _keys(event),
    }


def _keys(event: Event) -> str:
    if event.keys is None:
        return "any row"
    keys = [
        str(key[0]) if len(key) == 1 else f"({', '.join(map(str, key))})"
        for key in sorted(event.keys)[:SHOWN_KEYS]
    ]
    more = len(event.keys) - len(keys)
    return f"pk {', '.join(keys)}" + (f" and {more} more" if more else "")


@receiver(tables_changed, dispatch_uid="shop.receivers")
def show_nudge(batch: Batch, **kwargs: Any) -> None:
    now = time.time()
    nudges.remember(
        {
            "kind": "nudge",
            "at": now,
            "ms": None if batch.committed_at is None else (now - batch.committed_at) * 1000,
            "tables": [_table(event) for event in batch.events],
            "deleted": deletions.take(),
        }
    )


@receiver(resynced, dispatch_uid="shop.receivers")
def show_resync(reason: str, **kwargs: Any) -> None:
    deletions.take()  # the list of the next nudge begins here
    nudges.remember({"kind": "resync", "at": time.time(), "reason": reason})
