"""How long to wait between two attempts."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays that grow by ``factor`` from ``initial`` to ``maximum`` seconds.

    Each is drawn between ``least``, a share of what it has grown to, and that. With 0 this is full
    jitter, which spreads the clients of a server that restarts; with 1 there is no jitter. No delay
    is below half the initial one, so that a refused connection is never retried in a tight loop.
    """

    def __init__(
        self,
        initial: float,
        maximum: float,
        *,
        factor: float = 2.0,
        least: float = 0.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._least = least
        self._uniform = uniform
        self.attempts = 0

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        # Past 2**32 every maximum anyone sets is reached, and a float would overflow at 2**1024.
        ceiling = min(self._maximum, self._initial * self._factor ** min(self.attempts, 32))
        self.attempts += 1
        return self._uniform(max(self._initial / 2, self._least * ceiling), ceiling)

    def lasted(self, seconds: float) -> None:
        """A connection was up for this long. Those that end as soon as they begin are waited for
        as failures are: each costs a slot and a Resync."""
        if seconds >= self._maximum:
            self.reset()

    def reset(self) -> None:
        """The next delay is the first one again."""
        self.attempts = 0
