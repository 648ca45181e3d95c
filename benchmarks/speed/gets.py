"""Another client of Redis, which asks for one key every millisecond, from `start` to `stop`.

python -m benchmarks.speed.gets PORT
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Final

from benchmarks.speed.asked import answer

PACE: Final = 0.001
GET: Final = b"*2\r\n$3\r\nGET\r\n$10\r\nsomebody's\r\n"


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
        while not self._stop.is_set() or not self._waits:
            early = due - time.perf_counter()
            if early > 0:
                time.sleep(early)
                # That the system wakes us late is not Redis's doing.
                due = time.perf_counter()
            self._socket.sendall(GET)
            if not self._socket.recv(100):
                raise ConnectionError("Redis hung up")
            self._waits.append((time.perf_counter() - due) * 1000)
            due += PACE


if __name__ == "__main__":
    gets = Gets(int(sys.argv[1]))
    answer(lambda word: gets.start() if word == "start" else gets.stop())
