"""A Resync of one version of a cache: how long it takes, and what other clients feel of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.cache import caches as django_caches
from servers.redis import Redis, find_redis

from benchmarks.speed.child import Child
from benchmarks.speed.report import OURS, percentile

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

    from benchmarks.speed.command import Run

DJANGO: Final = f"{OURS}, Django's backend"
PEER: Final = 'delete_pattern("*")'
NOBODY: Final = "nobody clears"

SECONDS: Final = "seconds"
WAITS: Final = "another client's GET, p99 ms"

PREFIX: Final = "site"
OTHER_VERSION: Final = 2
CALM: Final = 1.0
"""Seconds for which the other client is measured while nobody clears."""

FILL: Final = """
for number = ARGV[2], ARGV[3] do redis.call('SET', ARGV[1] .. number, ARGV[4]) end
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--keys", type=int, help="in the version that is cleared, and beside it")


def measure(run: Run) -> None:
    keys = run.options.keys or (5_000 if run.quick else 300_000)
    with (
        Redis(find_redis(given=False)) as redis,
        Child("benchmarks.speed.gets", redis=redis.port) as gets,
    ):
        _configure(redis.url)
        from django_pgnudge import caches  # noqa: PLC0415 - settings first
        from django_pgnudge.rules import CacheRef  # noqa: PLC0415

        store: Any = django_caches["default"]
        client = store.client.get_client()
        run.report.facts = {
            "Redis": str(client.info("server")["redis_version"]),
            "keys": f"{keys:,} in the version cleared, {keys:,} in another",
        }
        contenders: dict[str, Callable[[], object]] = {
            OURS: lambda: caches.clear_version(CacheRef("default")),
            DJANGO: lambda: caches.clear_version(CacheRef("django")),
            PEER: lambda: store.delete_pattern("*"),
            NOBODY: lambda: time.sleep(0.1 if run.quick else CALM),
        }
        case = f"one version of {keys:,} keys"
        _fill(client, store.make_key("", version=OTHER_VERSION), keys)
        for each in run.rounds(full=7):
            for contender in run.in_turn(contenders, each):
                _fill(client, store.make_key(""), keys)
                gets.ask("start")
                began = time.perf_counter()
                contenders[contender]()
                seconds = time.perf_counter() - began
                waits = gets.ask("stop")
                left = client.dbsize()
                if left != (2 * keys if contender == NOBODY else keys):
                    raise RuntimeError(f"{contender} left {left:,} keys")
                if contender != NOBODY:
                    run.report.add(case, contender, **{SECONDS: seconds})
                run.report.add(case, contender, **{
                    WAITS: percentile(waits, 99),
                    "another client's GET, longest ms": max(waits),
                })  # fmt: skip
        _count_commands_of_an_epoch(run, client)
    _judge(run, case)


def _judge(run: Run, case: str) -> None:
    report = run.report
    report.at_least("as fast as delete_pattern", 1 / report.ratio(case, SECONDS, PEER), 5, "times")
    report.at_least(
        "the same with Django's backend",
        1 / report.ratio(case, SECONDS, PEER, DJANGO), 5, "times",
    )  # fmt: skip
    report.at_most("another client's GET meanwhile, p99", report.median(case, WAITS), 5, "ms")
    report.at_most(
        "the same with Django's backend", report.median(case, WAITS, DJANGO), 5, "ms"
    )  # fmt: skip
    commands = report.median("nudged entries, however many", "commands")
    report.at_most("commands that end all nudged entries", commands, 3)
    report.notes.append(
        "The other client is a process of its own that asks for one key every millisecond. It does"
        " not wait for one answer before it asks again."
    )


def _count_commands_of_an_epoch(run: Run, client: Any) -> None:
    """What a Resync sends for nudged values: it ends their epoch, and nothing is scanned.

    The lease is deleted, by which all of them end; then come a mark for what follows and the time.
    """
    from django_pgnudge.daemon.cache_memory import CacheMemory  # noqa: PLC0415
    from django_pgnudge.reader.keys import Names  # noqa: PLC0415

    memory = CacheMemory("default", Names.of("benchmark"))
    memory.begin()
    client.config_resetstat()
    memory.begin()
    stats = client.info("commandstats")
    ignored = {"cmdstat_info", "cmdstat_config", "cmdstat_config|resetstat"}
    calls = sum(found["calls"] for name, found in stats.items() if name not in ignored)
    run.report.add("nudged entries, however many", OURS, commands=calls)


def _configure(url: str) -> None:
    cache: dict[str, Any] = {"LOCATION": url, "KEY_PREFIX": PREFIX, "TIMEOUT": None}
    settings.configure(
        CACHES={
            "default": {"BACKEND": "django_redis.cache.RedisCache", **cache},
            "django": {"BACKEND": "django.core.cache.backends.redis.RedisCache", **cache},
        }
    )


def _fill(client: Any, head: str, keys: int) -> None:
    for start in range(0, keys, 10_000):
        last = min(keys, start + 10_000) - 1
        client.eval(FILL, 0, head, start, last, "x" * 64)
    # What was cleared before is freed by a thread of the server's own.
    while client.info("memory").get("lazyfree_pending_objects"):
        time.sleep(0.01)
