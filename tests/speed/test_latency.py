"""A quick run of `python -m benchmarks latency`: it runs, and every contender deletes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers.redis import find_redis

from benchmarks.speed.latency import FLOOR, IDLE, NOTIFY, PGNUDGE_AT_ONCE
from benchmarks.speed.report import OURS, PGNUDGE
from tests.fix_servers import installations, missing

ROOT = Path(__file__).parent.parent.parent


def test_each_contender_is_measured_and_loses_nothing(tmp_path: Path) -> None:
    if not any(each.bindir for each in installations()):
        pytest.skip(missing("pgoutput"))
    if find_redis(given=False) is None:
        pytest.skip(missing("redis"))
    file = tmp_path / "latency.json"
    command = [sys.executable, "-m", "benchmarks", "latency", "--quick", "--json", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads(file.read_text())["samples"]
    deleting = {OURS, PGNUDGE, PGNUDGE_AT_ONCE, NOTIFY}
    gone = "COMMIT sent to key gone, ms"
    assert set(samples[IDLE][gone]) == deleting | {FLOOR}
    (busy,) = samples.keys() - {IDLE}
    for case in (IDLE, busy):
        assert set(samples[case][gone]) >= deleting
        assert all(time > 0 for times in samples[case][gone].values() for time in times)
        assert samples[case]["lost"] == {each: [0] for each in deleting}
    assert all(rate > 0 for (rate,) in samples[busy]["commits/s"].values())
