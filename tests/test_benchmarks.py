"""`python -m benchmarks NAME --quick`: that each runs to its end, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed.report import OURS
from tests.fix_servers import installations, missing

ROOT = Path(__file__).parent.parent

NAMES = {
    "big-transaction": "pg_recvlogical",
    "throughput": "pg_recvlogical",
}
"""Benchmarks, and one of the peers of each."""


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_us_and_a_peer(name: str, tmp_path: Path) -> None:
    if not any(each.bindir and len(each.plugins) == 3 for each in installations()):
        pytest.skip(missing("wal2json"))
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--json", found],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{name} (quick: too few rounds to quote)" in done.stdout
    written = json.loads(found.read_text())
    assert written["quick"] is True
    assert written["aims"]
    for figures in written["samples"].values():
        measured = {contender for contenders in figures.values() for contender in contenders}
        assert measured >= {OURS, NAMES[name]}
        assert all(samples for each in figures.values() for samples in each.values())
