"""From COMMIT to the Redis key gone: one commit at a time, and among 2,000 commits a second."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from redis import Redis
from servers.process import ServerFailedError, tail

from benchmarks.speed import observer, stage
from benchmarks.speed.child import Child
from benchmarks.speed.peers import notify_deletes, pgnudge_deletes
from benchmarks.speed.report import OURS, PGNUDGE, percentile
from benchmarks.speed.site.tables import ROWS, STORED, TABLES

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterator

    from benchmarks.speed.command import Run

__all__ = ["add_arguments", "measure"]

FLOOR: Final = "floor: DEL by the writer"
PGNUDGE_AT_ONCE: Final = "pgnudge, debounce=0"
NOTIFY: Final = "trigger + NOTIFY"

P50: Final = "a round's p50, ms"
P99: Final = "a round's p99, ms"

IDLE: Final = "idle: one commit at a time"
SAMPLED: Final = tuple(range(45, 50))
"""The numbers of the tables that samples are taken of; the others are written in the background."""

PATIENCE: Final = 10.0
"""Seconds after which a key that is still there counts as lost."""


def add_arguments(parser: ArgumentParser) -> None:
    """Those of its own."""
    stage.add_arguments(parser)
    parser.add_argument("--rate", type=int, default=2000, metavar="N", help="commits/s when busy")
    parser.add_argument("--only", choices=["idle", "busy"], help="one of the two cases")


@dataclass(slots=True)
class Samples:
    """Times in milliseconds, a number each sample."""

    gone: list[float] = field(default_factory=list)
    """From just before COMMIT was sent."""
    after: list[float] = field(default_factory=list)
    """From the return of COMMIT; negative if the key was gone before the writer heard."""
    commit: list[float] = field(default_factory=list)
    """What COMMIT itself took."""
    lost: int = 0


class Sampler:
    """Sets a key, commits a change that deletes it, and waits until the observer has seen it go."""

    def __init__(self, connection: psycopg.Connection[Any], redis: Redis, seen: Child) -> None:
        self._postgres = connection.pgconn
        self._redis = redis
        self._seen = seen

    def commit(self, number: int, patience: float = PATIENCE) -> tuple[float, float, float | None]:
        """Of one commit to a table: when it was sent, when it returned, when the key was gone."""
        row = random.randint(1, ROWS)
        while True:
            begun = self._set(number)
            update = f"BEGIN; UPDATE {TABLES[number]} SET amount = amount + 1 WHERE id = {row}"
            self._postgres.exec_(update.encode())
            sent = time.perf_counter()
            self._postgres.exec_(b"COMMIT")
            returned = time.perf_counter()
            gone = self._gone(number, begun, patience)
            if gone is None or gone >= sent:
                return sent, returned, gone
            # A Resync was quicker.

    def delete(self, number: int) -> tuple[float, float, float | None]:
        """The same of a key that is deleted here."""
        begun = self._set(number)
        sent = time.perf_counter()
        self._redis.delete(STORED[number])
        return sent, time.perf_counter(), self._gone(number, begun, PATIENCE)

    def _set(self, number: int) -> float:
        begun = time.perf_counter()
        self._redis.set(STORED[number], 1)
        return begun

    def _gone(self, number: int, since: float, patience: float) -> float | None:
        deadline = time.perf_counter() + patience
        while (left := deadline - time.perf_counter()) > 0:
            seen = self._seen.hear(left)
            if seen is not None and seen[0] == number and seen[1] >= since:
                return float(seen[1])
        return None

    def take(self, samples: Samples, number: int, *, delete: bool = False) -> None:
        """Add one sample."""
        sent, returned, gone = self.delete(number) if delete else self.commit(number)
        if gone is None:
            samples.lost += 1
            return
        samples.gone.append((gone - sent) * 1000)
        samples.after.append((gone - returned) * 1000)
        samples.commit.append((returned - sent) * 1000)


class Latency:
    """The servers, the observer and the contenders of one run."""

    def __init__(self, run: Run, servers: stage.Stage, stack: contextlib.ExitStack) -> None:
        self.run = run
        self.servers = servers
        self.redis: Redis = stack.enter_context(
            contextlib.closing(Redis(port=servers.redis.port, single_connection_client=True))
        )
        connection = stack.enter_context(psycopg.connect(servers.dsn, autocommit=True))
        seen = stack.enter_context(
            Child("benchmarks.speed.observer", redis=servers.redis.port, tables=SAMPLED)
        )
        seen.hear()
        self.sampler = Sampler(connection, self.redis, seen)
        plugins = servers.installation.plugins
        self.plugin = "wal2json" if "wal2json" in plugins else "test_decoding"
        self.contenders: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
            OURS: servers.runnudge,
            PGNUDGE: lambda: pgnudge_deletes.started(servers, self.plugin),
            PGNUDGE_AT_ONCE: lambda: pgnudge_deletes.started(servers, self.plugin, debounce=0),
            NOTIFY: self._notify,
        }

    @contextlib.contextmanager
    def _notify(self) -> Iterator[None]:
        postgres = self.servers.postgres
        postgres.execute(notify_deletes.CREATE, stage.DATABASE)
        try:
            with Child(
                "benchmarks.speed.peers.notify_deletes",
                redis=self.servers.redis.port,
                dsn=self.servers.dsn,
            ):
                yield
        finally:
            postgres.execute(notify_deletes.DROP, stage.DATABASE)

    def idle(self, contender: str) -> None:
        """Single commits on a server that has nothing else to do."""
        samples = Samples()
        number = 20 if self.run.quick else 300
        with self._live(contender):
            for _ in range(number):
                # Of no fixed rhythm, so that no timer of a contender falls in with it.
                time.sleep(random.uniform(0.002, 0.006))
                self.sampler.take(samples, random.choice(SAMPLED), delete=contender == FLOOR)
        self._report(IDLE, contender, samples)

    def busy(self, case: str, contender: str) -> None:
        """The same among the commits of others."""
        samples = Samples()
        background = [number for number in range(len(TABLES)) if number not in SAMPLED]
        job = {
            "dsn": self.servers.dsn,
            "redis": self.servers.redis.port,
            "tables": background,
            "rate": self.run.options.rate,
            "seconds": 1 if self.run.quick else 6,
        }
        with self._live(contender):
            resyncs = self._resyncs()
            with Child("benchmarks.speed.writers", **job) as writers:
                while (written := writers.hear(0)) is None:
                    time.sleep(random.uniform(0.002, 0.006))
                    self.sampler.take(samples, random.choice(SAMPLED))
                commits, seconds = written
            samples.lost += self._left(background)
            if self._resyncs() > resyncs:
                self.run.report.notes.append("A Resync came under load: it hides what was lost.")
        self._report(case, contender, samples)
        self.run.report.add(case, contender, **{"commits/s": commits / seconds})

    def _left(self, numbers: list[int]) -> int:
        """How many keys are not gone though nothing is written any more."""
        deadline = time.monotonic() + PATIENCE
        keys = [STORED[number] for number in numbers]
        while left := int(self.redis.exists(*keys)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return left

    def _resyncs(self) -> int:
        log = self.servers.log
        return log.read_text().count("Resync (") if log.exists() else 0

    @contextlib.contextmanager
    def _live(self, contender: str) -> Iterator[None]:
        self.run.say(contender)
        if contender == FLOOR:
            yield
            return
        with self.contenders[contender]():
            deadline = time.monotonic() + 30
            while self.sampler.commit(SAMPLED[0], patience=0.5)[2] is None:
                if time.monotonic() > deadline:
                    words = tail(self.servers.log) if contender == OURS else ""
                    raise ServerFailedError(f"{contender} deletes nothing. {words}")
            for _ in range(20):
                self.sampler.commit(random.choice(SAMPLED))
            yield

    def _report(self, case: str, contender: str, samples: Samples) -> None:
        figures: dict[str, float | list[float]] = {
            "COMMIT sent to key gone, ms": samples.gone,
            P50: statistics.median(samples.gone),
            P99: percentile(samples.gone, 99),
        }
        if contender != FLOOR:
            figures["COMMIT returned to key gone, ms"] = samples.after
            figures["COMMIT itself, ms"] = samples.commit
            figures["lost"] = samples.lost
        self.run.report.add(case, contender, **figures)


def measure(run: Run) -> None:
    """Fill the report."""
    busy = f"busy: {run.options.rate:,} commits/s over {len(TABLES)} tables"
    report = run.report
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(stage.Stage(run.options, redis=observer.SETTINGS))
        latency = Latency(run, servers, stack)
        report.facts |= servers.facts() | {
            "peers": f"pgnudge by {latency.plugin}; the listener is psycopg's"
        }
        for each in run.rounds(5):
            if run.options.only != "busy":
                for contender in run.in_turn([*latency.contenders, FLOOR], each):
                    latency.idle(contender)
            if run.options.only != "idle":
                for contender in run.in_turn(latency.contenders, each):
                    latency.busy(busy, contender)
    report.notes.append(
        "A round's p50 and p99 are of its samples; aims are held against their medians. The time"
        " is taken by a sleeping subscriber of Redis: what that costs everybody is in the floor."
    )
    if run.options.only != "busy":
        report.at_most("idle p50", report.median(IDLE, P50), 1, "ms")
        report.at_most("idle p99", report.median(IDLE, P99), 5, "ms")
        words = "idle p50 / that of"
        report.at_most(f"{words} {NOTIFY}", report.ratio(IDLE, P50, NOTIFY), 2.5)
        report.at_least(f"idle p50 of {PGNUDGE} / ours", 1 / report.ratio(IDLE, P50, PGNUDGE), 30)
    if run.options.only != "idle":
        report.at_most("busy p99", report.median(busy, P99), 20, "ms")
        report.at_most("busy: lost", sum(report.of(busy, "lost")), 0)
