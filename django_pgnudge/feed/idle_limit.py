"""How often to send a status so that no proxy ends the connection for being idle.

Load balancers and firewalls end a connection on which nothing was sent for a while, HAProxy by its
``timeout client`` and ``timeout server``. If that is shorter than the interval of our statuses, the
connection ends every few seconds, each time with a Resync.
"""

from __future__ import annotations

from typing import Final

_SHORTEST: Final = 0.5
"""Seconds. A connection that ends sooner ends for another reason."""

_ALIKE: Final = 0.25
"""The share by which two silences may differ."""


class IdleLimit:
    """Learns the idle timeout of a proxy from how streams end."""

    def __init__(self) -> None:
        self._silent = 0.0

    def ended(self, silent: float, interval: float) -> float | None:
        """The other side ended a stream after ``silent`` seconds, with a status each ``interval``.

        Returns the interval to go on with if two in a row ended after the same silence, else None.
        """
        before, self._silent = self._silent, silent
        if not _SHORTEST <= silent < interval or abs(silent - before) > _ALIKE * silent:
            return None
        self._silent = 0.0
        return silent / 3
