"""A site with each contender in turn, into a report."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from benchmarks.served import processor
from benchmarks.served.contenders import CONTENDERS, NAMED, NO_CACHE, Contender
from benchmarks.served.judge import NOTICED, Answer, Commit, Verdict, judge
from benchmarks.served.stage import PAST_SITE, THROUGH_SITE, WORKERS, Stage
from benchmarks.speed.child import Child
from benchmarks.speed.report import percentile

if TYPE_CHECKING:
    from benchmarks.served.stage import Running
    from benchmarks.speed.command import Run

__all__ = [
    "HITS", "NOTED", "PAST", "RATE", "RULES", "SITES", "WRITES", "Plan", "Site", "measure",
]  # fmt: skip

RATE: Final = "requests/s"
HITS: Final = "without PostgreSQL, %"
CPU: Final = "processor ms a request"
P50: Final = "p50, ms"
P99: Final = "p99, ms"
PAST: Final = "staler than the lease"
NOTED: Final = f"staler than {NOTICED:g} s"
STALEST: Final = "stalest, s"
WRITES: Final = "writes"
RULES: Final = "rules"
LINES: Final = "lines of settings"

GRACE: Final = 0.1
"""Seconds beyond the lease that an answer is given: the cache's clock has ticks."""

REACH: Final = 10.0

HOW_STALE: Final = (
    "Each contender serves a copy of the same site, from an empty cache on. An answer is stale if"
    " something on it had a newer version when it was asked for; that version counts from when its"
    f" COMMIT had returned. Past the lease means by more than the lease and {GRACE:g} s."
)
HOW_WRITTEN: Final = (
    "Half of the writes go through the site (Wagtail's admin, or the ORM), half are statements past"
    " it. The page of rank n is asked for 1/n times as often as the first. Processor time is that"
    " of gunicorn, PostgreSQL, Redis and runnudge."
)


@dataclass(frozen=True)
class Site:
    """A project, what it is full of, and how many of these, also with `--quick`."""

    name: str
    project: str
    unit: str
    size: int
    small: int


PACKAGES: Final = {"wagtail_site": "wagtail", "oscar_site": "django-oscar"}

SITES: Final = (
    Site("Wagtail", "wagtail_site", "pages", size=1000, small=60),
    Site("django-oscar", "oscar_site", "products", size=300, small=20),
)


@dataclass(frozen=True)
class Plan:
    """What is done to a site of that size; ``turns`` of each contender."""

    size: int
    seconds: float
    every: float
    lease: float
    visitors: int
    turns: int

    def case(self, site: Site) -> str:
        return f"{site.name}, {self.size:,} {site.unit}, two writes every {self.every:g} s"


@dataclass(frozen=True)
class Measured:
    """One contender's run."""

    rate: float
    free: float
    """The share of answers for which PostgreSQL was asked nothing."""
    cpu: float
    """Milliseconds an answer, of the site and of its servers."""
    times: list[float]
    writes: int
    verdict: Verdict


def measure(run: Run, site: Site, plan: Plan) -> None:
    """Build the site and let each contender serve it."""
    case, name = plan.case(site), site.name
    run.say(f"{name}: {plan.size:,} {site.unit} are made")
    with Stage(site.project, plan.size, server=run.options.server, lease=plan.lease) as stage:
        run.report.facts |= {
            "PostgreSQL": str(stage.postgres.installation),
            "Redis": stage.redis.program.version,
            "gunicorn": f"{metadata.version('gunicorn')}, {WORKERS} workers",
            PACKAGES[site.project]: metadata.version(PACKAGES[site.project]),
            "lease": f"{plan.lease:g} s",
            "visitors": f"{plan.visitors} at a time for {plan.seconds:g} s",
        }
        run.say(f"{len(stage.paths):,} addresses, whose pages read {len(stage.tables)} tables")
        for each in range(plan.turns):
            for contender in run.in_turn(CONTENDERS.values(), each):
                run.say(f"{name}, {contender.name}")
                _add(run, case, contender, _measure(run, stage, contender, plan, each))
        run.report.add(case, NAMED, **{RULES: len(stage.tables)})
    _judge(run, case)


def _measure(run: Run, stage: Stage, contender: Contender, plan: Plan, seed: int) -> Measured:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(stage.run(contender))
        # Ends after the processes below, and so never waits for what they will not say.
        pool = stack.enter_context(ThreadPoolExecutor(2))
        writers = [
            stack.enter_context(
                Child("benchmarks.served.writer", environment=running.environment,
                      how=how, items=stage.items)
            )
            for how in (THROUGH_SITE, PAST_SITE)
        ]  # fmt: skip
        load = stack.enter_context(
            Child("benchmarks.served.load", port=running.port, paths=stage.paths)
        )
        file = stage.folder / "answers.json"
        patience = plan.seconds + 300
        # Each answers once it has begun: what is not up yet would be measured as well.
        for child in writers:
            child.ask(0, 1, seed, patience=patience)
        commits = [
            pool.submit(child.ask, plan.seconds, plan.every, seed, patience=patience)
            for child in writers
        ]
        before = processor.seconds(running.pids)
        load.ask(plan.seconds, plan.visitors, seed, str(file), patience=patience)
        cpu = processor.seconds(running.pids) - before
        written = [Commit(*each) for future in commits for each in future.result()]
        _say_reasons(run, running)
    found = json.loads(file.read_text())
    return _found(found, written, cpu, plan)


def _found(found: dict[str, Any], written: list[Commit], cpu: float, plan: Plan) -> Measured:
    wrong = [status for _, _, status, _, _ in found["answers"] if status != 200]
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers were no pages, such as one of status {wrong[0]}")
    marks = [tuple(tuple(each) for each in page) for page in found["marks"]]
    if not all(marks):
        raise RuntimeError("a page shows no version of anything")
    answers = [Answer(began, marks[body]) for began, _, _, _, body in found["answers"]]
    return Measured(
        rate=len(answers) / plan.seconds,
        free=sum(not asked for _, _, _, asked, _ in found["answers"]) / len(answers),
        cpu=cpu * 1000 / len(answers),
        times=[seconds * 1000 for _, seconds, _, _, _ in found["answers"]],
        writes=len(written),
        verdict=judge(answers, written, plan.lease + GRACE),
    )


def _add(run: Run, case: str, contender: Contender, found: Measured) -> None:
    verdict = found.verdict
    run.report.add(case, contender.name, **{
        RATE: found.rate, HITS: found.free * 100, CPU: found.cpu,
        P50: statistics.median(found.times), P99: percentile(found.times, 99),
        PAST: verdict.past_lease, NOTED: verdict.noticed, STALEST: verdict.stalest,
        WRITES: found.writes, RULES: 0, LINES: contender.lines,
    })  # fmt: skip
    run.say(
        f"{found.rate:.0f} requests/s, {found.free:.0%} without PostgreSQL,"
        f" {found.cpu:.1f} ms of processor each,"
        f" {verdict.past_lease} past the lease, {verdict.noticed} noticed,"
        f" stalest {verdict.stalest:.2f} s"
    )


def _say_reasons(run: Run, running: Running) -> None:
    """Why pages were not kept, as the site's log has it."""
    for line in list(dict.fromkeys(re.findall(r"^.*nudged.*$", running.said(), re.MULTILINE)))[:8]:
        run.say(f"    {line[:400]}")


def _judge(run: Run, case: str) -> None:
    report = run.report
    ratio = report.ratio(case, RATE, NO_CACHE)
    report.at_least(f"{case}: requests of no cache", ratio, REACH, "times")
    report.at_most(f"{case}: staler than the lease", max(report.of(case, PAST)), 0, "answers")
    report.at_most(f"{case}: rules to write", max(report.of(case, RULES)), 0)
    report.notes = list(dict.fromkeys([*report.notes, HOW_STALE, HOW_WRITTEN]))
