"""A process that asks for pages, as fast as they come: `python -m benchmarks.served.load JSON`.

Some visitors at a time, each without a cookie, each on a connection of its own as gunicorn's
ordinary workers have it. Few pages are asked for often and many seldom: the page of rank n has a
share of 1/n.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from servers.process import LOOPBACK

from benchmarks.served.marks import in_page
from benchmarks.speed.child import answer

PATIENCE: Final = 60.0
_QUERIES: Final = b"\r\nx-queries: "


def get(port: int, path: str) -> tuple[int, int, bytes]:
    """Status, how often the database was asked, and the body."""
    with socket.create_connection((LOOPBACK, port), PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    queries = head.lower().partition(_QUERIES)[2].partition(b"\r\n")[0]
    return int(head[9:12] or 0), int(queries or 0), body


class Load:
    """What was asked and answered; a body that comes again is kept once."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._port: int = job["port"]
        self._paths: list[str] = job["paths"]
        self._shares = list(
            itertools.accumulate(1 / rank for rank in range(1, len(self._paths) + 1))
        )
        self._lock = threading.Lock()
        self._bodies: dict[bytes, int] = {}
        self._marks: list[Any] = []
        self._answers: list[tuple[float, float, int, int, int]] = []

    def run(self, seconds: float, visitors: int, seed: int, file: str) -> int:
        """Ask for so long; how many answers are in the file."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._visit, args=(end, random.Random(f"{seed} {each}")))
            for each in range(visitors)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        Path(file).write_text(json.dumps({"answers": self._answers, "marks": self._marks}))
        return len(self._answers)

    def _visit(self, end: float, rng: random.Random) -> None:
        while (began := time.monotonic()) < end:
            (path,) = rng.choices(self._paths, cum_weights=self._shares)
            status, queries, body = 0, 0, b""
            try:
                status, queries, body = get(self._port, path)
            except OSError as error:
                print(f"{path}: {error}", file=sys.stderr)
            took = time.monotonic() - began
            self._answers.append((began, took, status, queries, self._number(body)))

    def _number(self, body: bytes) -> int:
        with self._lock:
            number = self._bodies.setdefault(body, len(self._bodies))
            if number == len(self._marks):
                self._marks.append(in_page(body))
            return number


if __name__ == "__main__":
    answer(Load(json.loads(sys.argv[1])).run)
