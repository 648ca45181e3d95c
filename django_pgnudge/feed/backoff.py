"""How long to wait between two attempts to connect."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from ``initial`` to ``maximum`` seconds, each with full jitter.

    A restarted server is met by all its clients at once; the jitter spreads them. No delay is
    below half the initial one, so that a refused connection is never retried in a tight loop.
    """

    def __init__(
        self,
        initial: float,
        maximum: float,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._uniform = uniform
        self.attempts = 0

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        # Past 2**32 every maximum anyone sets is reached, and a float would overflow at 2**1024.
        ceiling = min(self._maximum, self._initial * 2 ** min(self.attempts, 32))
        self.attempts += 1
        return self._uniform(self._initial / 2, ceiling)

    def lasted(self, seconds: float) -> None:
        """A connection was up for this long. Those that end as soon as they begin are waited for
        as failures are: each costs a slot and a Resync."""
        if seconds >= self._maximum:
            self.reset()

    def reset(self) -> None:
        self.attempts = 0
