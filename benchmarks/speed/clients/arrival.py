"""When the first change reached the process, seen from below the feed.

A selector that, until the first change after `expect`, looks at what waits in the sockets that
have become readable, without taking it. From then on it only passes calls on, so it costs nothing
while there is something to measure; and it knows nothing of the feed that reads.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from typing import Any


class Arrival(selectors.DefaultSelector):
    """The event loop's selector."""

    moment = 0.0
    """time.monotonic() of the first change."""
    _expected = False

    def expect(self) -> None:
        self._expected = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        if self._expected:
            now = time.monotonic()
            if any(_waits(key.fd) for key, events in ready if events & selectors.EVENT_READ):
                self.moment, self._expected = now, False
        return ready


def _waits(descriptor: int) -> bool:
    """Whether XLogData stands first in a socket: CopyData, its length, `w`."""
    with contextlib.suppress(OSError):
        copy = socket.socket(fileno=os.dup(descriptor))
        with copy:
            seen: Any = copy.recv(6, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            return bool(seen[:1] == b"d" and seen[5:6] == b"w")
    return False
