"""When to let a burst fill the buffer: pure logic.

A reader faster than the walsender takes one row in each read, and wakes, and is woken by, the
server for each. Left alone for a moment, the kernel gathers what the server sends. Only a burst
pays for that, with a moment; the single commit of a quiet server is read at once.
"""

from __future__ import annotations

__all__ = ["PAUSE", "Moderator"]

PAUSE = 0.0003
"""Seconds to leave the stream alone; an event loop's timer may make a millisecond of it."""

ENOUGH = 16 * 1024
"""Bytes that make a read worth its system call."""

WINDOW = 0.005
BURST = 50
"""So many reads within a window, 10,000 a second, are a burst."""

OVER = 1024
"""A pause that gathered fewer bytes was one too many: the burst is over."""


class Moderator:
    """Told of every read, says whether the next one should wait."""

    def __init__(self) -> None:
        self._began = 0.0
        self._reads = 0
        self._burst = False
        self._paused = False

    def wants_pause(self, size: int, now: float) -> bool:
        """Whether to leave the stream alone for `PAUSE` after a read of ``size`` bytes; ``now``
        is in seconds on any clock."""
        if self._burst:
            if self._paused and size < OVER:
                self._burst = False
                self._reads, self._began = 0, now
        elif now - self._began > WINDOW:
            self._reads, self._began = 1, now
        else:
            self._reads += 1
            self._burst = self._reads >= BURST
        self._paused = self._burst and size < ENOUGH
        return self._paused
