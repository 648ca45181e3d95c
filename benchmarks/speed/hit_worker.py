"""A process that reads values which are cached, and tells how long each call took.

It is asked with a reader, a case and a number of calls. None of them may have queried the
database, or they were no hits.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import django
from django.db.backends.signals import connection_created

from benchmarks.speed.child import answer

PATIENCE: Final = 30.0
"""Seconds within which a value must come from the cache."""


class Queries:
    """Counts what reaches the database, from whichever thread."""

    def __init__(self) -> None:
        self.count = 0
        connection_created.connect(self._watch)

    def _watch(self, connection: Any, **kwargs: Any) -> None:
        connection.execute_wrappers.append(self._run)

    def _run(self, execute: Any, *args: Any) -> Any:
        self.count += 1
        return execute(*args)


class Worker:
    """Reads, with or without an event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        from benchmarks.speed.peers import hits  # noqa: PLC0415 - Django first

        self._hits = hits
        self._runner = runner
        self._queries = Queries()
        self._known: dict[tuple[str, str], Any] = {}

    def read(self, reader: str, case: str, calls: int) -> list[float]:
        """The seconds of each call."""
        if (reader, case) not in self._known:
            makers: dict[str, Any] = {**self._hits.READERS, **self._hits.ASYNC_READERS}
            self._known[reader, case] = makers[reader](case)
        read = self._known[reader, case]
        is_async = reader in self._hits.ASYNC_READERS
        once = (lambda: self._runner.run(read())) if is_async else read
        self._wait_for_a_hit(once, self._hits.CASES[case]())
        before = self._queries.count
        seconds = self._runner.run(atimes(read, calls)) if is_async else times(read, calls)
        if self._queries.count != before:
            raise RuntimeError(f"{self._queries.count - before} queries in {calls} calls")
        return seconds

    def _wait_for_a_hit(self, once: Any, expected: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            before = self._queries.count
            found = once()
            if found != expected:
                raise RuntimeError(f"read {found!r}, not {expected!r}")
            if self._queries.count == before:
                return
            if time.monotonic() > deadline:
                raise RuntimeError("never read from the cache")
            time.sleep(0.01)


def times(read: Any, calls: int) -> list[float]:
    clock = time.perf_counter
    seconds = []
    for _ in range(calls):
        began = clock()
        read()
        seconds.append(clock() - began)
    return seconds


async def atimes(read: Any, calls: int) -> list[float]:
    clock = time.perf_counter
    seconds = []
    for _ in range(calls):
        began = clock()
        await read()
        seconds.append(clock() - began)
    return seconds


if __name__ == "__main__":
    django.setup()
    with asyncio.Runner() as runner:
        answer(Worker(runner).read)
