"""A process that reads values, declared or observed, and tells how long each call took.

No call of a hit may have queried the database. Each call of a miss must have, and what was kept
must be found after it.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, Final

import django

from benchmarks.speed.child import answer
from benchmarks.speed.hit_worker import PATIENCE, Queries, times

NEW: Final = itertools.count()
"""Arguments of misses."""


class Worker:
    """Reads, and counts queries."""

    def __init__(self) -> None:
        from benchmarks.speed.peers import observed_reads  # noqa: PLC0415 - Django first

        self._reads = observed_reads
        self._queries = Queries()
        self._known: dict[tuple[str, int], Any] = {}
        self._learned: set[tuple[str, int]] = set()

    def read(self, what: str, reader: str, count: int, calls: int) -> list[float]:
        """The seconds of each call."""
        measure = self._hits if what == "hit" else self._misses
        return measure(reader, count, calls)

    def _hits(self, reader: str, count: int, calls: int) -> list[float]:
        if (reader, count) not in self._known:
            self._known[reader, count] = self._reads.HITS[count][reader]()
        read = self._known[reader, count]
        self._wait_until_kept(read)
        before = self._queries.count
        seconds = times(read, calls)
        if self._queries.count != before:
            raise RuntimeError(f"{self._queries.count - before} queries in {calls} hits")
        return seconds

    def _misses(self, reader: str, count: int, calls: int) -> list[float]:
        read = self._reads.MISSES[count][reader]
        is_kept = reader != "queries"
        if is_kept and (reader, count) not in self._learned:
            first = next(NEW)
            self._wait_until_kept(lambda: read(first))
            self._learned.add((reader, count))
        seconds = []
        for argument in itertools.islice(NEW, calls):
            before = self._queries.count
            began = time.perf_counter()
            read(argument)
            seconds.append(time.perf_counter() - began)
            missed = self._queries.count
            if missed - before < count:
                raise RuntimeError(f"{missed - before} queries in a miss of {count}")
            if is_kept:
                read(argument)
                if self._queries.count != missed:
                    raise RuntimeError(f"{reader}: a miss was not kept")
        return seconds

    def _wait_until_kept(self, read: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            before = self._queries.count
            read()
            if self._queries.count == before:
                return
            if time.monotonic() > deadline:
                raise RuntimeError("never read from the cache")
            time.sleep(0.01)


if __name__ == "__main__":
    django.setup()
    answer(Worker().read)
