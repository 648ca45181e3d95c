"""Waiting in a coroutine; `servers.process.wait_until` is for everything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE: Final = 30.0
"""Seconds."""


async def until(
    condition: Callable[[], Any], what: str = "the condition", *, blocks: bool = False
) -> Any:
    """What ``condition()`` returns once that is true; fails with ``what`` after `DEADLINE`.

    One that ``blocks`` is asked off the event loop.
    """
    found = None
    try:
        async with asyncio.timeout(DEADLINE):
            while not (found := await asyncio.to_thread(condition) if blocks else condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(
            f"waited {DEADLINE:g} s in vain for {what}; at last there was {found!r}"
        ) from None
    return found
