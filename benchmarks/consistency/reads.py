"""Readers: through plain keys and through `nudged` values of all kinds, and a note of each read.

Every value holds its rows with their versions, so that the checker knows what it is made of.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from django.core.cache import caches
from django.db import Error, connection, transaction
from redis.exceptions import RedisError

from benchmarks.consistency import kinds, observed
from benchmarks.consistency.records import Log, Read, Value, value_of
from benchmarks.consistency.site.models import ROWS
from benchmarks.consistency.targets import TIMEOUT, Target, nudged_targets, targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

WEIGHTS: Final = {"row": 1.0, "table": 4.0, "sale": 4.0, "pair": 2.0}


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
        is_nudged = self._plan != "plain"
        found: list[Any] = {
            "plain": targets, "nudged": nudged_targets, "kinds": kinds.everything,
            "observed": observed.everything,
        }[self._plan]()  # fmt: skip
        weights = [WEIGHTS.get(target.kind, 1.0) for target in found]
        while not self._stop.is_set():
            target = self._rng.choices(found, weights)[0]
            try:
                if not is_nudged:
                    self._read_plain(target)
                elif isinstance(target, Target) and self._rng.random() < 0.02:
                    self._read_privately(target)
                else:
                    self._read_nudged(target)
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

    def _slowly(self, compute: Callable[[], Any]) -> Any:
        """Compute; now and then with a pause before it can be stored, the classical race."""
        value = compute()
        if self._rng.random() < 0.05:
            time.sleep(self._rng.uniform(0, 0.4))
        return value

    def _read_plain(self, target: Target) -> None:
        begun = time.monotonic()
        value = self._cache.get(target.key)
        hit, lag = value is not None, 0.0
        if not hit:
            started = time.monotonic()
            value = self._slowly(target.compute)
            self._cache.set(target.key, value, TIMEOUT)
            lag = time.monotonic() - started
        self._write("plain", target, begun, hit, value_of(value), lag)

    def _read_nudged(self, target: Any, *, private: bool = False) -> None:
        begun = time.monotonic()
        value, hit = target.get(lambda: self._slowly(target.compute))
        # What a replica answers is as old as the replica; only what is kept is judged.
        private = private or (target.kind == "routed" and not hit)
        self._write("nudged", target, begun, hit, value_of(value), 0.0, private)

    def _read_privately(self, target: Target) -> None:
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
            self._read_nudged(target, private=True)
            transaction.set_rollback(True)

    def _write(
        self, family: str, target: Any, begun: float, hit: bool, value: Value, lag: float,
        private: bool = False,
    ) -> None:  # fmt: skip
        self._log.add(
            Read(
                f"{family} {target.kind}", self._name, target.key, begun, time.monotonic(), hit,
                value, lag, private,
            )
        )  # fmt: skip
