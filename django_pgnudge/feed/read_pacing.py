"""When to let a burst fill the buffer: pure logic.

A reader faster than the walsender gets one row in each read, and the two wake each other for each
row. If it pauses for a moment, the kernel gathers what the server sends. If it pauses until the
window is full, the server also sends fewer packets. Only a burst is delayed by that, by a few
milliseconds; the single commit of a quiet server is read at once.
"""

from __future__ import annotations

SHORTEST = 0.001
LONGEST = 0.008
"""Seconds to leave the stream alone: as many as the burst has lasted, within these."""

ENOUGH = 128 * 1024
"""Bytes that make a read worth its system call."""

WINDOW = 0.005
BURST = 50
BURST_BYTES = 32 * 1024
"""So many reads within a window (10,000 a second), or so many bytes in them, are a burst."""

OVER = 1_000_000
"""A pause that gathered fewer bytes a second was one too many: the burst is over."""


class ReadPacer:
    """Is told of every read, and says how long the next one should wait."""

    def __init__(self) -> None:
        self._began = self._before = 0.0
        self._reads = self._bytes = 0
        self._length = 0.0
        self._paused = False

    def pause(self, size: int, now: float) -> float:
        """For how many seconds to leave the stream alone after a read of ``size`` bytes.

        ``now`` is in seconds on any clock.
        """
        if self._length:
            if self._paused and size < OVER * (now - self._before):
                self._length = 0.0
                self._reads, self._bytes, self._began = 0, 0, now
            elif self._paused and size < ENOUGH:
                self._length = min(2 * self._length, LONGEST)
        elif now - self._began > WINDOW:
            self._reads, self._bytes, self._began = 1, size, now
        else:
            self._reads += 1
            self._bytes += size
            if self._reads >= BURST or self._bytes >= BURST_BYTES:
                self._length = SHORTEST
        self._paused = self._length > 0 and size < ENOUGH
        self._before = now
        return self._length if self._paused else 0.0
