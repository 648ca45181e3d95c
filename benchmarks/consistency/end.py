"""The beginning and the end of a run: tables to start with, a canary, the comparison."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.db import connection
from servers.process import ServerFailedError

from benchmarks.consistency import observed
from benchmarks.consistency.history import stored_late
from benchmarks.consistency.records import Log, Read, Seen, Value, Write, value_of
from benchmarks.consistency.site.models import ROWS, SEQUENCE, Sale
from benchmarks.consistency.site.tables import MAKE, SPREAD
from benchmarks.consistency.targets import (
    CANARY,
    Target,
    nudged_targets,
    targets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.consistency.history import Checker
    from benchmarks.consistency.options import Options


def fill(path: Path) -> None:
    """Rows to start with, and a note of them as if they had always been there."""
    seen = []
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SEQUENCE {SEQUENCE}")
        cursor.execute(MAKE)
        for table, (_, rows, read) in ROWS.items():
            cursor.execute(
                f"INSERT INTO {table} (id, version, note) SELECT g, nextval('{SEQUENCE}'), ''"
                f" FROM generate_series(1, {rows}) g"
            )
            cursor.execute(f"SELECT id, version FROM {table} WHERE id <= {read}")
            seen += [Seen(table, *row) for row in cursor.fetchall()]
        cursor.execute(SPREAD)
        cursor.execute(observed.MAKE)
        cursor.execute(f"INSERT INTO canary VALUES (1, nextval('{SEQUENCE}'), '')")
        sale = Sale.objects.create(version=0)
    seen.append(Seen("sale", 0, sale.version, 1))
    log = Log(path)
    # A finite time before everything, since JSON has no infinity that all agree on.
    log.add(Write("start", -1.0, -1.0, tuple(seen)))
    log.close()


class End:
    """Looks at the caches from outside, as one more client of the site."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._cache = caches["default"]

    def wait_until_live(self, timeout: float, hint: Callable[[], str]) -> float:
        """Until a change to the canary's row has killed its plain key, and its `nudged` value is
        served again, renewed. Seconds it took.
        """
        begun = time.monotonic()
        until = begun + timeout
        # It may be one to a server that has crashed since.
        connection.close()
        while not (self._plain_is_live(until) and self._nudged_is_live(until)):
            words = hint()
            if time.monotonic() > until:
                raise ServerFailedError(f"Waited {timeout:g} s in vain for {words}")
        return time.monotonic() - begun

    def _change(self) -> Value:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE canary SET version = nextval('{SEQUENCE}')")
        return value_of(CANARY.compute())

    def _plain_is_live(self, until: float) -> bool:
        self._cache.set("canary", "sings")
        self._change()
        patience = min(until, time.monotonic() + 5)
        while self._cache.get("canary") is not None:
            if time.monotonic() > patience:
                return False
            time.sleep(0.02)
        return True

    def _nudged_is_live(self, until: float) -> bool:
        true = self._change()
        patience = min(until, time.monotonic() + 2 * self._options.lease + 1)
        while True:
            value, hit = CANARY.get(CANARY.compute)
            if hit and value_of(value) == true:
                return True
            if time.monotonic() > patience:
                return False
            time.sleep(0.02)

    def compare(self, checker: Checker, reads: Iterable[Read]) -> dict[str, Any]:
        """Every cached value with the database."""
        counts: Counter[str] = Counter()
        slow = stored_late(reads, self._options.again)
        for target in targets():
            cached = self._cache.get(target.key)
            if cached is None:
                continue
            counts["plain compared"] += 1
            value, true = value_of(cached), value_of(target.compute())
            if value == true:
                continue
            if value in slow[target.key] or not self._options.again:
                counts["plain excused"] += 1
            else:
                counts["plain stale"] += 1
                checker.at_the_end(target.key, "plain", value, true, time.monotonic())
        for target in nudged_targets():
            counts.update(self._compare_nudged(checker, target))
        return dict(counts)

    def _compare_nudged(self, checker: Checker, target: Target) -> Counter[str]:
        counts: Counter[str] = Counter()
        true = value_of(target.compute())
        cached, hit = target.get(target.compute)
        if hit:
            counts["nudged compared"] += 1
            if not checker.at_the_end(
                target.key, "nudged", value_of(cached), true, time.monotonic()
            ):
                counts["nudged stale"] += 1
        return counts
