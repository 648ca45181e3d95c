"""A nudged value that is in the cache, beside ``cache.get`` and two caches of queries."""

from __future__ import annotations

import contextlib
import statistics
from importlib import metadata
from typing import TYPE_CHECKING, Final

from redis import Redis as Client
from servers.process import wait_until

from benchmarks.speed.child import Child
from benchmarks.speed.report import OURS
from benchmarks.speed.shop import Shop

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from benchmarks.speed.command import Run

PLAIN: Final = "cache.get"
APLAIN: Final = "cache.aget"
AOURS: Final = f"{OURS}, async"
CACHALOT: Final = "django-cachalot"
CACHEOPS: Final = "django-cacheops"

BACKENDS: Final = {
    "django-redis": "django_redis.cache.RedisCache",
    "Django's backend": "django.core.cache.backends.redis.RedisCache",
}
CASES: Final = ("one column of one row", "one row", "20 rows")
READERS: Final = {
    PLAIN: ("plain", "cache.get"),
    OURS: ("plain", "nudged"),
    CACHALOT: ("cachalot", "queryset"),
    CACHEOPS: ("cacheops", "queryset"),
    APLAIN: ("plain", "cache.aget"),
    AOURS: ("plain", "nudged, async"),
}
"""By contender: the app its process has besides the shop's, and how it reads."""

FIGURE: Final = "µs"
REACH: Final = 1.3


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, help="of one reader in a row")


def measure(run: Run) -> None:
    calls = run.options.calls or (50 if run.quick else 15)
    run.report.paired = True
    with Shop(run.options.server) as shop:
        run.report.facts = shop.facts() | {
            name: metadata.version(name) for name in ("redis", "django-redis", CACHALOT, CACHEOPS)
        }
        for backend, path in BACKENDS.items():
            run.say(backend)
            _measure_backend(run, shop, backend, path, calls)
    for backend in BACKENDS:
        for case in CASES:
            _judge(run, f"{backend}, {case}")
    run.report.notes.append(
        "Each sample is the median of a short block of calls in a process that has only its"
        " contender installed, and each ratio the median of those of the rounds. In each block"
        " Redis was asked at each call, and PostgreSQL at none."
    )


def _measure_backend(run: Run, shop: Shop, backend: str, path: str, calls: int) -> None:
    with contextlib.ExitStack() as stack:
        daemon = shop.runnudge(_environment(shop, path, "plain"))
        stack.callback(daemon.end)
        wait_until(
            lambda: "Connected to PostgreSQL" in daemon.log.read_text() or not daemon.alive,
            "runnudge",
        )
        readers = {
            app: stack.enter_context(
                Child("benchmarks.speed.hit_worker", environment=_environment(shop, path, app))
            )
            for app in dict(READERS.values())
        }
        redis = stack.enter_context(Client.from_url(shop.redis.url))

        def commands() -> int:
            return int(redis.info("stats")["total_commands_processed"])

        for each in run.rounds(full=150):
            for case in CASES:
                for contender in run.in_turn(READERS, each):
                    app, how = READERS[contender]
                    asked = commands()
                    seconds = readers[app].ask(how, case, calls)
                    if commands() - asked < calls:
                        raise RuntimeError(f"{contender} did not ask Redis at each call")
                    figures = {FIGURE: statistics.median(seconds) * 1e6}
                    run.report.add(f"{backend}, {case}", contender, **figures)
        daemon.end()
        daemon.log.unlink()


def _environment(shop: Shop, backend: str, app: str) -> dict[str, str]:
    apps = [] if app == "plain" else [app]
    return shop.environment("benchmarks.speed.shop_settings", apps=apps, backend=backend)


def _judge(run: Run, case: str) -> None:
    report = run.report
    ratio = report.ratio(case, FIGURE, PLAIN)
    report.at_most(f"{case}: as long as cache.get", ratio, REACH, "times")
    for peer in (CACHALOT, CACHEOPS):
        ratio = report.ratio(case, FIGURE, peer)
        report.at_most(f"{case}: as long as {peer}", ratio, 1, "times")
    ratio = report.ratio(case, FIGURE, APLAIN, AOURS)
    report.at_most(f"{case}: async, as long as cache.aget", ratio, REACH, "times")
