"""One run: servers, processes, faults, quiet, and what the checker says."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from servers.process import ServerFailedError, ServerProcess, tail

import django_pgnudge
from benchmarks.consistency.faults import Faults
from benchmarks.consistency.history import Checker, History
from benchmarks.consistency.records import Reads, writes
from benchmarks.consistency.stack import DATABASE, Stack

if TYPE_CHECKING:
    from benchmarks.consistency.options import Options

Say = Callable[[str], None]

CLOCK: Final = 0.1
"""Seconds by which a key may outlive its time by our clock; see the package's docstring."""

LIVE: Final = 90.0
"""Seconds the daemon has to be live again once nothing is broken any more."""

PER_PROCESS: Final = 2
"""Writers or readers in one process."""


def run(options: Options, say: Say) -> dict[str, Any]:
    """Run it and report; ServerFailedError if the run itself could not be made."""
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pgnudge-consistency-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Stack(options, folder, say) as stack:
            return _Run(stack, say).report()
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    def __init__(self, stack: Stack, say: Say) -> None:
        self.stack = stack
        self.options = stack.options
        self.folder = stack.folder
        self.say = say
        self._live_waits: list[float] = []

    def report(self) -> dict[str, Any]:
        self._set_up()
        from benchmarks.consistency.copies import lagging_copy  # noqa: PLC0415 - Django first
        from benchmarks.consistency.end import End  # noqa: PLC0415

        end = End(self.options)
        self.stack.start_daemon()
        end.wait_until_live(LIVE, self._hint)
        self.say(f"{self.stack.installation}, {self.stack.redis.program}: the daemon is live.")
        with contextlib.ExitStack() as closing:
            readers = closing.enter_context(self._workers("reader", self.options.readers))
            writers = [
                *closing.enter_context(self._workers("writer", self.options.writers)),
                *closing.enter_context(self._workers("ddl", int(self.options.changes_tables))),
            ]
            closing.enter_context(lagging_copy())
            faults = self._work()
            self.say("Writers stop.")
            quiet_since = self._finish(writers)
            self.say("Waiting for the daemon to be live.")
            waited = end.wait_until_live(LIVE, self._hint)
            self.say(f"Live after {waited:.1f} s. Readers go on for a lease.")
            self._sleep(self.options.lease)
            self._finish(readers)
        # What `again` deletes may come this late; and then everything has to be true.
        self._sleep(max(self.options.again, self.options.lease) + 1.0, quiet_since)
        end.wait_until_live(LIVE, self._hint)
        return self._judge(end, faults, waited)

    def _set_up(self) -> None:
        os.environ.update(self.stack.environment())
        import django  # noqa: PLC0415 - the settings need the servers' addresses
        from django.core.management import call_command  # noqa: PLC0415

        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
        from benchmarks.consistency.end import fill  # noqa: PLC0415 - Django first
        from benchmarks.consistency.site.models import PUBLISHED  # noqa: PLC0415

        fill(self.folder / "writer-start.log")
        if self.stack.publication:
            # Not FOR ALL TABLES: of that none can be taken out.
            self.stack.postgres.execute(
                f"CREATE PUBLICATION {self.stack.publication} FOR TABLE {', '.join(PUBLISHED)}",
                DATABASE,
            )

    def _work(self) -> Faults:
        """The time in which writers write and things break; ends with nothing broken."""
        began = time.monotonic()
        faults = Faults(self.stack, self.options.seed, began)
        if self.options.faults:
            faults.start()
        try:
            plan = _Situation(self.stack, self.options) if self.options.broken else None
            while (left := began + self.options.seconds - time.monotonic()) > 0:
                if plan is not None:
                    plan.step()
                time.sleep(min(left, 0.2))
                self.stack.watch_daemon()
                if faults.failure is not None:
                    raise ServerFailedError(f"A fault failed: {faults.failure!r}")
        finally:
            if self.options.faults:
                faults.stop()
        if faults.failure is not None:
            raise ServerFailedError(f"A fault failed: {faults.failure!r}")
        if self.options.broken in {"lease", "clock"}:
            self.stack.start_daemon()
        return faults

    @contextlib.contextmanager
    def _workers(self, kind: str, number: int) -> Iterator[list[ServerProcess]]:
        plans = self.options.reader_plans if kind == "reader" else self.options.writer_plans
        started: list[ServerProcess] = []
        try:
            for first in range(0, number, PER_PROCESS):
                job = {
                    "kind": kind,
                    "indexes": list(range(first, min(first + PER_PROCESS, number))),
                    "seed": self.options.seed,
                    "folder": str(self.folder),
                    "plans": plans,
                    "again": self.options.again,
                    "lease": self.options.lease,
                    "break": self.options.broken,
                    "publication": self.stack.publication,
                    "clock": self.options.clock_of(first // PER_PROCESS) * (kind == "reader"),
                }
                module = "benchmarks.consistency.worker"
                started.append(
                    self.stack.python("-m", module, json.dumps(job), log=f"{kind}-{first}.out")
                )
            yield started
        finally:
            for process in started:
                process.end(timeout=10)

    def _finish(self, processes: list[ServerProcess]) -> float:
        """Ask them to end and wait; when the last one had. Raises if one fails."""
        for process in processes:
            process.send(process.stop_signal)
        for process in processes:
            # A second SIGTERM changes nothing for one that is on its way.
            process.end(timeout=70)
            status = process.popen.returncode
            if status:
                raise ServerFailedError(f"A worker ended with {status}:\n{tail(process.log, 60)}")
        return time.monotonic()

    def _sleep(self, seconds: float, since: float | None = None) -> None:
        """A time that the promise itself names, not a wait for something to happen."""
        begun = time.monotonic() if since is None else since
        while (left := begun + seconds - time.monotonic()) > 0:
            self.stack.watch_daemon()
            time.sleep(min(left, 0.2))

    def _hint(self) -> str:
        self.stack.watch_daemon()
        return f"the daemon to be live. Its log ends:\n{tail(self.stack.daemon_log, 30)}"

    def _judge(self, end: Any, faults: Faults, waited: float) -> dict[str, Any]:
        self.say("Checking.")
        began = time.monotonic()
        logs = [*sorted(self.folder.glob("writer-*.log")), *self.folder.glob("ddl-*.log")]
        history = History(writes(logs))
        reads = Reads(tuple(sorted(self.folder.glob("reader-*.log"))))
        from django_pgnudge.conf import conf  # noqa: PLC0415 - Django first

        bound = self.options.lease + CLOCK
        if self.options.in_files:
            # A clock that is late by less than SKEW lets a lease seem younger by as much.
            bound += conf.NUDGED["SKEW"]
        checker = Checker(history, bound)
        checker.check(reads)
        compared = end.compare(checker, reads)
        results = [
            result
            for path in sorted(self.folder.glob("*.counts"))
            for result in json.loads(path.read_text())
        ]
        counts: dict[str, Counter[str]] = {
            "writer": Counter(), "reader": Counter(), "ddl": Counter(),
        }  # fmt: skip
        for result in results:
            counts[result["name"].partition("-")[0]].update(result["counts"])
        raised = [text for result in results for text in result["tracebacks"]]
        if raised:
            checker.violations["raised to the reader"] += len(raised)
        if self.stack.unexpected_exits:
            checker.violations["the daemon ended"] += len(self.stack.unexpected_exits)
        return {
            "ok": not checker.violations,
            "options": dataclasses.asdict(self.options),
            "versions": self._versions(),
            "writes": dict(counts["writer"]),
            "ddl": dict(counts["ddl"]),
            "reads": {kind: each.report() for kind, each in sorted(checker.tallies.items())},
            "reader errors": dict(counts["reader"]),
            "faults": {
                "number": len(faults.log),
                "by name": dict(Counter(entry["fault"] for entry in faults.log)),
                "log": faults.log,
            },
            "bound": {"lease": self.options.lease, "clock": CLOCK, "seconds": bound},
            "live again after": round(waited, 2),
            "end": compared,
            "violations": {
                "counts": dict(checker.violations),
                "examples": checker.examples,
                "raised": raised[:5],
                "daemon": self.stack.unexpected_exits,
            },
            "checked in": round(time.monotonic() - began, 1),
        }

    def _versions(self) -> dict[str, str]:
        return {
            "django-pgnudge": django_pgnudge.__version__,
            "python": platform.python_version(),
            "postgres": str(self.stack.installation),
            "plugin": self.stack.plugin,
            "redis": self.stack.redis_version,
            **{name: version(name) for name in ("django", "django-redis", "psycopg")},
            "redis-py": version("redis"),
        }


class _Situation:
    """For `--break lease` and `clock`: a daemon that is away longer than a lease, repeatedly."""

    def __init__(self, stack: Stack, options: Options) -> None:
        self._stack = stack
        self._applies = options.broken in {"lease", "clock"}
        self._running = True
        self._lasts = {True: 2 * options.lease + 1.0, False: 4 * options.lease + 2.0}
        self._next = time.monotonic() + self._lasts[True]

    def step(self) -> None:
        if not self._applies or time.monotonic() < self._next:
            return
        self._running = not self._running
        if self._running:
            self._stack.start_daemon()
        else:
            self._stack.kill_daemon()
        self._next = time.monotonic() + self._lasts[self._running]
