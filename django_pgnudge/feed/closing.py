"""What has to be closed although whoever closes it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await ``work`` although this task is cancelled meanwhile, and only then be cancelled.

    A loop that ends cancels every task, that of ``work`` too: then it is begun again.
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
