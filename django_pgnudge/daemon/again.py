"""Deleting once more: for plain keys, which a slow reader may store behind the first deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from django_pgnudge.daemon.invalidation import Invalidation

SHARES: Final = 4
"""What comes within this part of a delay is deleted again together."""


class Repeater:
    """Submits work a second time, ``delay`` seconds later or a little more.

    Memory is bounded: of each cache and delay there are a few gatherings at a time, each of which
    is bounded as a worker's own work is.
    """

    def __init__(self, submit: Callable[[str, Invalidation], object]) -> None:
        self._submit = submit
        self._open: dict[tuple[str, float], Invalidation] = {}

    def add(self, alias: str, later: dict[float, Invalidation]) -> None:
        """Take over ``later``: work by the seconds to wait. Call from the event loop."""
        loop = asyncio.get_running_loop()
        for delay, invalidation in later.items():
            gathering = self._open.get((alias, delay))
            if gathering is None:
                gathering = self._open[alias, delay] = Invalidation()
                # Whoever comes last into a gathering waits for the whole delay too.
                loop.call_later(delay / SHARES, self._open.pop, (alias, delay))
                loop.call_later(delay + delay / SHARES, self._submit, alias, gathering)
            gathering.merge(invalidation)
            gathering.bound()
