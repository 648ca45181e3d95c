"""benchmarks: each runs, beside its peers, and says what it found; how fast is not asked here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.redis import find_redis

from benchmarks.served.contenders import CACHALOT, CACHE_PAGE, NAMED, NO_CACHE
from benchmarks.served.run import HITS, NOTED, PAST, RATE, RULES, WRITES
from benchmarks.speed.latency import FLOOR, IDLE, NOTIFY, PGNUDGE_AT_ONCE
from benchmarks.speed.observed_values import DECLARED, QUERIES, TABLES, UNCACHED, hit, miss
from benchmarks.speed.report import OURS, PGNUDGE
from tests import ROOT
from tests.fix_servers import installations, missing

pytestmark = pytest.mark.slow

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Runs one quickly, in a process; what it wrote as JSON."""
    if not any(each.bindir for each in installations()):
        pytest.skip(missing("pgoutput"))
    if find_redis(given=False) is None:
        pytest.skip(missing("redis"))

    def run(name: str, *arguments: str, timeout: float = 150) -> dict[str, Any]:
        path = tmp_path / "report.json"
        command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(path)]
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{name} (quick")
        report: dict[str, Any] = json.loads(path.read_text())
        return report

    return run


def contenders(report: dict[str, Any], case: str, figure: str) -> set[str]:
    """Those with samples, each a number above zero."""
    found = report["samples"][case][figure]
    assert all(values and min(values) > 0 for values in found.values())
    return set(found)


def needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module}: install the extra bench")


def test_clear(measure: Measure) -> None:
    report = measure("clear", "--keys", "3000")
    case = "one version of 3,000 keys"
    clearing = {OURS, f"{OURS}, Django's backend", 'delete_pattern("*")'}
    assert contenders(report, case, "seconds") == clearing
    assert contenders(report, case, "another client's GET, p99 ms") == {*clearing, "nobody clears"}
    assert len(report["aims"]) == 5


def test_hit(measure: Measure) -> None:
    needs("cachalot", "cacheops")
    report = measure("hit", "--calls", "20")
    assert len(report["samples"]) == 6
    for case in report["samples"]:
        assert contenders(report, case, "µs") == {
            "cache.get", "cache.aget", OURS, f"{OURS}, async", "django-cachalot", "django-cacheops",
        }  # fmt: skip
    assert len(report["aims"]) == 24


def test_observed_values(measure: Measure) -> None:
    needs("cachalot")
    report = measure("observed", "--only", "values", "--rounds", "2")
    hits = {"cache.get", "django-cachalot", DECLARED, OURS}
    for tables in TABLES:
        assert contenders(report, hit(tables), "µs") == hits
    for queries in QUERIES:
        assert contenders(report, miss(queries), "µs") == {UNCACHED, DECLARED, OURS}
    assert len(report["aims"]) == 9


@pytest.mark.parametrize(("site", "package"), [("Wagtail", "wagtail"), ("django-oscar", "oscar")])
def test_observed_sites(measure: Measure, site: str, package: str) -> None:
    needs("cachalot", "gunicorn", package)
    report = measure("observed", "--only", site, "--size", "12", timeout=600)
    ((case, figures),) = report["samples"].items()
    assert contenders(report, case, RATE) == {NO_CACHE, CACHE_PAGE, CACHALOT, OURS}
    assert contenders(report, case, WRITES) == {NO_CACHE, CACHE_PAGE, CACHALOT, OURS}
    assert figures[PAST][OURS] == figures[PAST][NO_CACHE] == [0]
    assert figures[NOTED][NO_CACHE] == [0]
    assert figures[PAST][CACHE_PAGE] > [0], "the checker must find what is stale"
    assert figures[HITS][OURS] > [0]
    assert figures[RULES][OURS] == [0]
    assert figures[RULES][NAMED] > [10]


def test_start(measure: Measure) -> None:
    report = measure("start")
    case = "the example shop, from the start of the process"
    assert OURS in contenders(report, case, "ms")
    assert len(report["aims"]) == 1


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("throughput", "pg_recvlogical"),
        ("big-transaction", "pg_recvlogical"),
        ("memory", PGNUDGE),
    ],
)
def test_the_feed(measure: Measure, name: str, peer: str) -> None:
    if not any(each.bindir and len(each.plugins) == 3 for each in installations()):
        pytest.skip(missing("wal2json"))
    report = measure(name)
    assert report["aims"]
    for figures in report["samples"].values():
        measured = {contender for contenders in figures.values() for contender in contenders}
        assert measured >= {OURS, peer}
        assert all(samples for each in figures.values() for samples in each.values())


def test_latency_of_each_contender_and_nothing_lost(measure: Measure) -> None:
    samples = measure("latency")["samples"]
    deleting = {OURS, PGNUDGE, PGNUDGE_AT_ONCE, NOTIFY}
    gone = "COMMIT sent to key gone, ms"
    assert set(samples[IDLE][gone]) == deleting | {FLOOR}
    (busy,) = samples.keys() - {IDLE}
    for case in (IDLE, busy):
        assert set(samples[case][gone]) >= deleting
        assert all(time > 0 for times in samples[case][gone].values() for time in times)
        assert samples[case]["lost"] == {each: [0] for each in deleting}
    assert all(rate > 0 for (rate,) in samples[busy]["commits/s"].values())
