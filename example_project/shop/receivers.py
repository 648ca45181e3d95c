"""What the shop does beside having its keys deleted: it tells the page about it.

The receivers run in ``runnudge``, after the keys of the batch are gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.dispatch import receiver

from django_pgnudge.signals import resynced, tables_changed
from shop import nudges

if TYPE_CHECKING:
    from django_pgnudge.events import Batch, Event

SHOWN_KEYS = 3


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
            "tables": [
                {"name": event.payload, "rows": event.count, "keys": _keys(event)}
                for event in batch.events
            ],
        }
    )


@receiver(resynced, dispatch_uid="shop.receivers")
def show_resync(reason: str, **kwargs: Any) -> None:
    nudges.remember({"kind": "resync", "at": time.time(), "reason": reason})
