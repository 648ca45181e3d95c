"""Commits at a steady rate, by several connections: `python -m benchmarks.speed.writers JSON`.

Before each commit the key that it must delete is set. Every table belongs to one connection, so
that the last thing that happens to a key is a commit. What is said in the end: how many commits,
and in how many seconds.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from typing import Any, Final

import psycopg

from benchmarks.speed.child import end_with_parent, say
from benchmarks.speed.site.tables import ROWS, STORED, TABLES

__all__ = ["main"]

CONNECTIONS: Final = 4


class Writer(threading.Thread):
    """One connection that commits one row at a time, `rate` times a second."""

    def __init__(self, job: dict[str, Any], tables: list[int]) -> None:
        super().__init__(daemon=True)
        self.commits = 0
        self._tables = tables
        self._pause = CONNECTIONS / job["rate"]
        self._seconds: float = job["seconds"]
        self._postgres = psycopg.connect(job["dsn"], autocommit=True).pgconn
        self._redis = socket.create_connection(("127.0.0.1", job["redis"]))
        self._redis.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in tables:
            update = f"UPDATE {TABLES[number]} SET amount = amount + 1 WHERE id = $1"
            self._postgres.prepare(TABLES[number].encode(), update.encode())

    def run(self) -> None:
        rng = random.Random(self._tables[0])
        began = due = time.perf_counter()
        while due < began + self._seconds:
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            # A writer that is late goes on from here: a burst would not be the rate asked for.
            due = max(due + self._pause, time.perf_counter() - 10 * self._pause)
            number = rng.choice(self._tables)
            self._redis.sendall(f"SET {STORED[number]} 1\r\n".encode())
            self._redis.recv(64)
            row = str(rng.randint(1, ROWS)).encode()
            self._postgres.exec_prepared(TABLES[number].encode(), [row])
            self.commits += 1


def main(text: str) -> None:
    """Write for as long as the job says."""
    job: dict[str, Any] = json.loads(text)
    end_with_parent()
    writers = [Writer(job, job["tables"][first::CONNECTIONS]) for first in range(CONNECTIONS)]
    began = time.perf_counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    say([sum(writer.commits for writer in writers), time.perf_counter() - began])
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
