"""A process that writes, through a site or past it: `python -m benchmarks.served.writer JSON`.

The two writers of a run never write the same item: even numbers are the site's, odd ones are
written past it. So each item has one history.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from importlib import import_module
from typing import Any, Final

import django
import psycopg

from benchmarks.served.settings import SITE
from benchmarks.served.stage import THROUGH_SITE
from benchmarks.speed.child import answer

HOT: Final = 20
"""So many items of a kind get half of its writes: they are on the pages that are asked for most."""


class Past:
    """Statements on a connection of its own, as psql sends them."""

    def __init__(self, content: Any) -> None:
        self._statements = content.RAW
        self._connection = psycopg.connect(
            host=SITE["host"], port=SITE["port"], user=SITE["user"], dbname=SITE["database"],
            autocommit=True,
        )  # fmt: skip

    def write(self, kind: str, number: int, value: Any) -> None:
        done = self._connection.execute(self._statements[kind], [value, number])
        if done.rowcount != 1:
            raise RuntimeError(f"there is no {kind}{number}")


class Writer:
    """Writes one item every so often, and knows when each version was there."""

    def __init__(self, how: str, items: dict[str, list[int]]) -> None:
        content: Any = import_module(f"benchmarks.served.{SITE['site']}.content")
        self._content = content
        self._way: Any = content.Through() if how == THROUGH_SITE else Past(content)
        rest = 0 if how == THROUGH_SITE else 1
        mine = {kind: [each for each in numbers if each % 2 == rest]
                for kind, numbers in items.items()}  # fmt: skip
        self._items = {kind: numbers for kind, numbers in mine.items() if numbers}
        self._versions: Counter[tuple[str, int]] = Counter()

    def run(self, seconds: float, every: float, seed: int) -> list[tuple[str, int, int, float]]:
        """Write for so long; each item with its version and the time when it was there."""
        rng = random.Random(f"{seed} {type(self._way).__name__}")
        began = time.monotonic()
        # Not both at once, and the last one early enough to be read.
        due = began + every * (0.25 if isinstance(self._way, Past) else 0.75)
        commits = []
        while due < began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            due += every
            kind = rng.choice(list(self._items))
            numbers = self._items[kind]
            number = rng.choice(numbers[:HOT] if rng.random() < 0.5 else numbers)
            self._versions[kind, number] += 1
            version = self._versions[kind, number]
            self._way.write(kind, number, self._content.value(kind, number, version))
            commits.append((kind, number, version, time.monotonic()))
        return commits


if __name__ == "__main__":
    django.setup()
    job = json.loads(sys.argv[1])
    answer(Writer(job["how"], job["items"]).run)
