"""Observed values beside declared ones: a hit and a miss."""

from __future__ import annotations

import contextlib
import statistics
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Final

from servers.process import run as run_program
from servers.process import wait_until

from benchmarks.speed.child import Child
from benchmarks.speed.hit import CACHALOT, FIGURE, PLAIN
from benchmarks.speed.report import OURS
from benchmarks.speed.shop import Shop

if TYPE_CHECKING:
    from benchmarks.speed.command import Run

__all__ = ["DECLARED", "QUERIES", "TABLES", "UNCACHED", "hit", "measure", "miss"]

DECLARED: Final = f"{OURS}, tables named"
UNCACHED: Final = "not cached"

TABLES: Final = (1, 14)
QUERIES: Final = (1, 20)

HITS: Final = {
    PLAIN: ("plain", "cache.get"),
    DECLARED: ("plain", "declared"),
    OURS: ("plain", "observed"),
    CACHALOT: ("cachalot", "queries"),
}
MISSES: Final = {
    UNCACHED: ("plain", "queries"),
    DECLARED: ("plain", "declared"),
    OURS: ("plain", "observed"),
}
"""By contender: the app its process has besides the others, and how it reads."""

APPS: Final = [f"django.contrib.{name}" for name in ("auth", "contenttypes", "flatpages", "sites")]

OF_DECLARED: Final = 1.15
OF_PLAIN: Final = 1.4
OF_UNCACHED: Final = 1.3
MORE: Final = 1000.0
"""Microseconds."""


def hit(tables: int) -> str:
    return f"a hit, {tables} table{'s' * (tables > 1)}"


def miss(queries: int) -> str:
    return f"a miss, {queries} quer{'ies' if queries > 1 else 'y'}"


def measure(run: Run) -> None:
    """Contenders in turn, in blocks of some milliseconds."""
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(Shop(run.options.server))
        run.report.facts |= shop.facts() | {
            name: metadata.version(name) for name in ("redis", "django-redis", CACHALOT)
        }
        environments = {app: _environment(shop, app) for app in ("plain", "cachalot")}
        run_program([sys.executable, "-m", "django", "migrate", "-v0"], env=environments["plain"])
        daemon = shop.runnudge(environments["plain"])
        stack.callback(daemon.end)
        wait_until(
            lambda: "Connected to PostgreSQL" in daemon.log.read_text() or not daemon.alive,
            "runnudge",
        )
        children = {
            app: stack.enter_context(Child("benchmarks.speed.observed_worker", environment=each))
            for app, each in environments.items()
        }
        for each in run.rounds(full=150):
            for tables in TABLES:
                for contender in run.in_turn(HITS, each):
                    app, how = HITS[contender]
                    _add(run, hit(tables), contender, children[app].ask("hit", how, tables, 15))
            for queries in QUERIES:
                for contender in run.in_turn(MISSES, each):
                    app, how = MISSES[contender]
                    _add(run, miss(queries), contender, children[app].ask("miss", how, queries, 5))
    _judge(run)


def _add(run: Run, case: str, contender: str, seconds: list[float]) -> None:
    run.report.add(case, contender, **{FIGURE: statistics.median(seconds) * 1e6})


def _environment(shop: Shop, app: str) -> dict[str, str]:
    apps = APPS if app == "plain" else [*APPS, app]
    backend = "django_redis.cache.RedisCache"
    return shop.environment("benchmarks.speed.observed_settings", apps=apps, backend=backend)


def _judge(run: Run) -> None:
    report = run.report
    for tables in TABLES:
        for peer, limit in ((DECLARED, OF_DECLARED), (PLAIN, OF_PLAIN), (CACHALOT, 1.0)):
            ratio = report.ratio(hit(tables), FIGURE, peer)
            report.at_most(f"{hit(tables)}: as long as {peer}", ratio, limit, "times")
    for queries in QUERIES:
        case = miss(queries)
        pairs = zip(
            report.of(case, FIGURE), report.of(case, FIGURE, UNCACHED), strict=True
        )  # fmt: skip
        more = statistics.median(one - other for one, other in pairs)
        report.at_most(f"{case}: more than {UNCACHED}", more, MORE, FIGURE)
    ratio = report.ratio(miss(QUERIES[-1]), FIGURE, UNCACHED)
    report.at_most(f"{miss(QUERIES[-1])}: as long as {UNCACHED}", ratio, OF_UNCACHED, "times")
    report.notes.append(
        "Each sample of a hit or a miss is the median of a short block of calls, and each ratio the"
        " median of those of the rounds. A hit asked PostgreSQL nothing. A miss ran its queries,"
        " and its value was found in the cache after it."
    )
