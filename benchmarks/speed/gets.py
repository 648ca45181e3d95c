"""Another client of Redis, which asks for one key every millisecond, from `start` to `stop`.

It does not wait for one answer before it asks again, as many clients would not wait for each other.

python -m benchmarks.speed.gets JSON
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections import deque
from typing import Final

from benchmarks.speed.child import answer

PACE: Final = 0.001
GET: Final = b"*2\r\n$3\r\nGET\r\n$10\r\nsomebody's\r\n"
ABSENT: Final = b"$-1\r\n"


class Gets:
    """Asks in a thread."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stop = threading.Event()
        self._waits: list[float] = []
        self._thread = threading.Thread()

    def start(self) -> None:
        self._stop.clear()
        self._waits = []
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> list[float]:
        """What it waited, in milliseconds."""
        self._stop.set()
        self._thread.join()
        return self._waits

    def _loop(self) -> None:
        due = time.perf_counter()
        asked: deque[float] = deque()
        while asked or not self._stop.is_set():
            now = time.perf_counter()
            if now >= due and not self._stop.is_set():
                self._socket.sendall(GET)
                asked.append(now)
                due = max(due + PACE, now)
            readable, _, _ = select.select([self._socket], [], [], max(0.0, due - now))
            if readable:
                self._receive(asked)

    def _receive(self, asked: deque[float]) -> None:
        received = self._socket.recv(65536)
        now = time.perf_counter()
        answers = len(received) // len(ABSENT)
        if received != ABSENT * answers or not answers:
            raise ConnectionError(f"Redis answered {received!r:.200}")
        self._waits += [(now - asked.popleft()) * 1000 for _ in range(answers)]


if __name__ == "__main__":
    gets = Gets(json.loads(sys.argv[1])["redis"])
    answer(lambda word: gets.start() if word == "start" else gets.stop())
