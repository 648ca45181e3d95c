"""A proxy that hangs up on idle connections, and how often to say something so that it does not.

Load balancers and firewalls end a connection on which nothing was said for a while, HAProxy by its
``timeout client`` and ``timeout server``. Below the interval of our statuses, that is every few
seconds, and each end is a Resync.
"""

from __future__ import annotations

from typing import Final

_SHORTEST: Final = 0.5
"""Seconds. What ends sooner ends for another reason."""

_ALIKE: Final = 0.25
"""By how much of it two silences may differ."""


class IdleLimit:
    """What the ends of streams say of it."""

    def __init__(self) -> None:
        self._silent = 0.0

    def ended(self, silent: float, interval: float) -> float | None:
        """A stream was ended from there after ``silent`` seconds, with a status each ``interval``.

        Returns the interval to go on with if two in a row ended after the same silence, else None.
        """
        before, self._silent = self._silent, silent
        if not _SHORTEST <= silent < interval or abs(silent - before) > _ALIKE * silent:
            return None
        self._silent = 0.0
        return silent / 3
