"""Readers: half of them through plain keys, half through `nudged` values, and a note of each read.

Every value holds its rows with their versions, so that the checker knows what it is made of.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.cache import caches
from django.db import Error, connection, transaction
from redis.exceptions import RedisError

from benchmarks.consistency.records import Log, Read, Seen, Value, value_of
from benchmarks.consistency.site.models import ROWS, Canary, Sale
from benchmarks.consistency.site.settings import NUDGED_CACHE
from django_pgnudge import nudged

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

TIMEOUT: Final = 3600


class Target(NamedTuple):
    """One value: its key, the kind it is counted under, and the query that computes it."""

    key: str
    kind: str
    sql: str
    depends_on: tuple[tuple[str, int | None], ...]

    def compute(self) -> list[Seen]:
        with connection.cursor() as cursor:
            cursor.execute(self.sql)
            return [Seen(*row) for row in cursor.fetchall()]


def _row(table: str, row: int) -> str:
    return f"SELECT '{table}', id, version FROM {table} WHERE id = {row}"


def targets() -> list[Target]:
    """Everything that is read."""
    found = []
    for table, (_, _, read) in ROWS.items():
        found += [
            Target(f"row:{table}:{row}", "row", _row(table, row), ((table, row),))
            for row in range(1, read + 1)
        ]
        sql = f"SELECT '{table}', id, version FROM {table} WHERE id <= {read} ORDER BY id"
        found.append(Target(f"table:{table}", "table", sql, ((table, None),)))
    sql = "SELECT 'sale', 0, coalesce(max(version), 0), count(*) FROM sale"
    found.append(Target("table:sale", "sale", sql, (("sale", None),)))
    return found


def nudged_targets() -> list[Target]:
    """What only `nudged` can do as well: rows of two tables in one value."""
    return targets() + [
        Target(
            f"pair:{row}",
            "pair",
            f"{_row('product', row)} UNION ALL {_row('price', row)}",
            (("product", row), ("price", row)),
        )
        for row in range(1, 9)
    ]


WEIGHTS: Final = {"row": 1.0, "table": 4.0, "sale": 4.0, "pair": 2.0}


def get_nudged(key: str, depends_on: Any, compute: Callable[[], Any]) -> tuple[Any, bool]:
    """The value, and whether it came without computing."""
    computed = []

    def default() -> Any:
        computed.append(True)
        return compute()

    value = nudged.get_or_set(
        f"nudged:{key}", default, depends_on=depends_on, cache=NUDGED_CACHE, timeout=TIMEOUT
    )
    return value, not computed


def dependencies(target: Target) -> list[Any]:
    models: dict[str, Any] = {table: model for table, (model, _, _) in ROWS.items()}
    models |= {"sale": Sale, "canary": Canary}
    return [
        models[table] if row is None else nudged.row(models[table], row)
        for table, row in target.depends_on
    ]


CANARY: Final = Target(
    "canary", "canary", "SELECT 'canary', id, version FROM canary", (("canary", 1),)
)


class Reader:
    """Reads until told to stop, in a thread with a connection of its own."""

    def __init__(
        self, name: str, log: Log, rng: random.Random, stop: threading.Event, *, plan: str,
        again: float,
    ) -> None:  # fmt: skip
        self.errors: Counter[str] = Counter()
        self.tracebacks: list[str] = []
        self._name = name
        self._log = log
        self._rng = rng
        self._stop = stop
        self._plan = plan
        self._again = again
        self._cache: BaseCache = caches["default"]

    def run(self) -> None:
        is_nudged = self._plan == "nudged"
        found = nudged_targets() if is_nudged else targets()
        weights = [WEIGHTS[target.kind] for target in found]
        depends_on = {target.key: dependencies(target) for target in found} if is_nudged else {}
        while not self._stop.is_set():
            target = self._rng.choices(found, weights)[0]
            try:
                if not is_nudged:
                    self._read_plain(target)
                elif self._rng.random() < 0.02:
                    self._read_privately(target, depends_on[target.key])
                else:
                    self._read_nudged(target, depends_on[target.key])
            except Error:
                self._failed("database")
            except RedisError as error:
                self._failed("cache", error if is_nudged else None)
            except Exception as error:
                self._failed(type(error).__name__, error)
            self._stop.wait(self._rng.uniform(0, 0.012))
        connection.close()

    def _failed(self, what: str, error: Exception | None = None) -> None:
        """Count it. Only databases may fail a `nudged` read, and caches a plain one too."""
        self.errors[f"{self._plan}: {what}"] += 1
        if error is not None and len(self.tracebacks) < 3:
            self.tracebacks.append("".join(traceback.format_exception(error)))
        if connection.connection is not None:
            connection.close()
        self._stop.wait(0.05)

    def _slowly(self, target: Target) -> list[Seen]:
        """Compute; now and then with a pause before it can be stored, the classical race."""
        value = target.compute()
        if self._rng.random() < 0.05:
            time.sleep(self._rng.uniform(0, 0.4))
        return value

    def _read_plain(self, target: Target) -> None:
        begun = time.monotonic()
        value = self._cache.get(target.key)
        hit, lag = value is not None, 0.0
        if not hit:
            started = time.monotonic()
            value = self._slowly(target)
            self._cache.set(target.key, value, TIMEOUT)
            lag = time.monotonic() - started
        self._write("plain", target, begun, hit, value_of(value), lag)

    def _read_nudged(self, target: Target, depends_on: Any, *, private: bool = False) -> None:
        begun = time.monotonic()
        value, hit = get_nudged(target.key, depends_on, lambda: self._slowly(target))
        self._write("nudged", target, begun, hit, value_of(value), 0.0, private)

    def _read_privately(self, target: Target, depends_on: Any) -> None:
        """In a transaction that sees what others must not be given."""
        own = self._rng.random() < 0.5
        table = target.depends_on[0][0]
        with transaction.atomic(), connection.cursor() as cursor:
            if own and table in ROWS:
                cursor.execute("SET LOCAL lock_timeout = '100ms'")
                cursor.execute(f"UPDATE {table} SET version = -1 WHERE id = %s", [
                    target.depends_on[0][1] or 1
                ])  # fmt: skip
            else:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT 1")
                self._stop.wait(self._rng.uniform(0, 0.5))
            self._read_nudged(target, depends_on, private=True)
            transaction.set_rollback(True)

    def _write(
        self, family: str, target: Target, begun: float, hit: bool, value: Value, lag: float,
        private: bool = False,
    ) -> None:  # fmt: skip
        self._log.add(
            Read(
                f"{family} {target.kind}", self._name, target.key, begun, time.monotonic(), hit,
                value, lag, private,
            )
        )  # fmt: skip
