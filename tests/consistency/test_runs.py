"""Whole short runs of `python -m benchmarks consistency`: what it finds, and what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.process import wait_until
from servers.redis import find_redis

from benchmarks.consistency.broken import PARTS
from tests import ROOT
from tests.fix_servers import installations, missing

pytestmark = pytest.mark.slow

MARK = "CONSISTENCY_TEST"

Start = Callable[..., "subprocess.Popen[str]"]


def marked(mark: str) -> list[int]:
    """Processes that were started below ours, however far."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def start(mark: str, tmp_path: Path) -> Iterator[Start]:
    if not any(each.bindir for each in installations()):
        pytest.skip(missing("pgoutput"))
    if find_redis(given=False) is None:
        pytest.skip(missing("redis"))
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks", "consistency", *arguments]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=os.environ | {MARK: mark, "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
            )
        )  # fmt: skip
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def report(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=300)
    assert process.returncode in {0, 1}, err
    return process.returncode, json.loads(out)


SHORT = ("--writers", "1", "--readers", "2", "--lease", "1", "--again", "1")


SECONDS = {"nested": 20, "observer": 15, "map": 20, "once": 30, "clock": 15, "keep": 20, "page": 20}
"""How long it takes until a part is missed, where that is long."""

PATIENCE = (1, 2, 4)
"""How many times as long the runs are, one after the other until one finds it: on a machine that
has much to do a run gets to less."""


@pytest.mark.parametrize("part", PARTS)
def test_a_promise_with_a_part_taken_away_is_found_broken(start: Start, part: str) -> None:
    status = 0
    found: dict[str, Any] = {}
    for times in PATIENCE:
        seconds = str(SECONDS.get(part, 8) * times)
        status, found = report(start("--seconds", seconds, *SHORT, "--break", part))
        if status:
            break
    assert status == 1
    if part == "page":
        assert "AnothersError" in found["violations"]["raised"][0]
        return
    assert found["violations"]["counts"]["beyond the lease"] > 0
    assert found["violations"]["examples"][0]["age"] > found["bound"]["seconds"]


def test_the_promise_as_it_is_is_kept(start: Start) -> None:
    status, found = report(start("--seconds", "5", "--seed", "3", *SHORT))
    assert (status, found["violations"]["counts"]) == (0, {})
    assert found["reads"]["nudged row"]["hits"] > 0
    assert found["reads"]["plain row"]["hits"] > 0
    assert found["end"]["nudged compared"] > 0


KINDS = ("nested", "page", "tenant", "observed table")


def test_the_promise_is_kept_for_values_of_every_kind(start: Start) -> None:
    more = ("--writers", "1", "--readers", "4", "--ddl", "--replica")
    found: dict[str, Any] = {}
    for times in PATIENCE:
        status, found = report(start("--seconds", str(12 * times), *more))
        assert (status, found["violations"]["counts"]) == (0, {})
        if all(found["reads"][f"nudged {kind}"]["hits"] > 0 for kind in KINDS):
            break
    assert all(found["reads"][f"nudged {kind}"]["hits"] > 0 for kind in KINDS)
    assert found["ddl"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_nothing_is_left_running_however_it_ends(start: Start, mark: str, number: int) -> None:
    process = start("--seconds", "60", *SHORT, "--faults")
    assert process.stderr
    for line in process.stderr:
        if "fault:" in line:
            break
    assert len(marked(mark)) > 4
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGKILL}
    wait_until(lambda: not marked(mark), "everything to end", timeout=40)
