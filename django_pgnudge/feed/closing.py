"""Closing something although the task that closes it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await ``work`` although this task is cancelled meanwhile; then raise the cancellation.

    An event loop that ends cancels every task, also that of ``work``. Then ``work`` is begun again.
    """
    cancelled: asyncio.CancelledError | None = None
    while True:
        task = asyncio.create_task(work(), name="pgnudge-cleanup")
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if not task.cancelled():
            break
    task.result()
    if cancelled is not None:
        raise cancelled
