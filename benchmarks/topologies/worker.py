"""The site's process: one writer, some readers, and what they saw, as JSON on the last line.

When half of the time is over it writes "half", and goes on until it is told on stdin to end in the
other half.
"""

from __future__ import annotations

import bisect
import json
import random
import sys
import threading
import time
from collections import defaultdict
from typing import Any, Final

import django

ROWS: Final = 20
READERS: Final = 2
PAUSE: Final = 0.005
"""Seconds between two reads of one reader."""

WRITES: Final = 0.04
"""Seconds between two writes, on average."""


class Trial:
    """Each write gives a row a higher number, so a read tells which write it has seen."""

    def __init__(self, seconds: float) -> None:
        from django.db.models import QuerySet  # noqa: PLC0415 - Django first

        from benchmarks.topologies.site.models import Item  # noqa: PLC0415
        from django_pgnudge import nudged  # noqa: PLC0415

        self._items: Any = QuerySet(Item)
        self._half = seconds / 2
        self._over = threading.Event()
        self._computed = threading.local()
        self._read = nudged(key=_own, depends_on=lambda pk: [nudged.row(Item, pk)])(self._number)
        self.commits: dict[int, list[tuple[int, float]]] = defaultdict(list)
        """By row: each number, and when it was seen committed."""
        self.reads: list[tuple[float, int, int, bool]] = []
        """When each began, its row, its number, and whether it was a hit."""
        self.errors: list[str] = []

    def run(self) -> None:
        works = [self._write, *[self._reader] * READERS]
        threads = [threading.Thread(target=self._guarded, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        self._over.wait(self._half)
        print("half", flush=True)
        sys.stdin.readline()
        self._over.wait(self._half)
        self._over.set()
        for thread in threads:
            thread.join()

    def report(self, lease: float) -> dict[str, Any]:
        stalest, stale, hits = 0.0, 0, 0
        for began, pk, number, is_hit in self.reads:
            hits += is_hit
            commits = self.commits[pk]
            after = bisect.bisect_right(commits, (number, float("inf")))
            age = began - commits[after][1] if after < len(commits) else 0.0
            stalest, stale = max(stalest, age), stale + (age > lease)
        return {
            "reads": len(self.reads), "hits": hits, "stale": stale, "stalest": round(stalest, 3),
            "writes": sum(map(len, self.commits.values())), "errors": self.errors[:3],
        }  # fmt: skip

    def left_by_rules(self) -> int:
        """How many keys that a rule names are left once their rows have changed."""
        from django.core.cache import cache  # noqa: PLC0415

        from django_pgnudge import settled  # noqa: PLC0415

        keys = [f"item:{pk}" for pk in range(1, ROWS + 1)]
        for key in keys:
            cache.set(key, 1, 600)
        self._items.update(number=0)
        if not settled(timeout=30):
            return -1
        return sum(cache.get(key) is not None for key in keys)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}"[:300])

    def _write(self) -> None:
        number, rng = 0, random.Random(1)
        while not self._over.is_set():
            number, pk = number + 1, rng.randint(1, ROWS)
            self._items.filter(pk=pk).update(number=number)
            self.commits[pk].append((number, time.monotonic()))
            self._over.wait(rng.expovariate(1 / WRITES))

    def _reader(self) -> None:
        rng = random.Random(threading.get_ident())
        while not self._over.is_set():
            pk, self._computed.now = rng.randint(1, ROWS), False
            began = time.monotonic()
            number = self._read(pk)
            self.reads.append((began, pk, number, not self._computed.now))
            self._over.wait(PAUSE)

    def _number(self, pk: int) -> int:
        self._computed.now = True
        number: int = self._items.get(pk=pk).number
        return number


def _own(pk: int) -> int:
    return pk


def main(seconds: float, lease: float) -> None:
    django.setup()
    trial = Trial(seconds)
    trial.run()
    print(json.dumps({**trial.report(lease), "left": trial.left_by_rules()}), flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
