"""`python -m benchmarks plots`: a picture for each result, the same each time it is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("matplotlib")

from benchmarks.__main__ import SPEED, main
from benchmarks.served import run as served
from benchmarks.served.contenders import CACHE_PAGE, NO_CACHE
from benchmarks.speed import big_transaction as big
from benchmarks.speed import clear, hit, latency, memory, observed_values, start, throughput
from benchmarks.speed.peers.followers import PG_RECVLOGICAL
from benchmarks.speed.plots.pictures import PICTURES
from benchmarks.speed.report import OURS, PGNUDGE, Report

PAIR = throughput.Case("narrow", "one", "wal2json"), throughput.Case("wide", "small", "pgoutput")
Figures = Mapping[str, tuple[float, ...]]
RESULTS: dict[str, dict[str, dict[str, Figures]]] = {
    "throughput": {
        str(case): {
            throughput.RATE: {OURS: (5e5, 6e5), PG_RECVLOGICAL: (4e5,), "another": (1e5,)},
            throughput.CPU: {OURS: (1.5, 1.6), PG_RECVLOGICAL: (1.2,), "another": (9,)},
        }
        for case in PAIR
    },
    "latency": {
        case: {
            latency.P50: {OURS: (0.7,), PGNUDGE: (51,)},
            latency.P99: {OURS: (3,), PGNUDGE: (90,)},
        }
        for case in (latency.IDLE, "busy")
    },
    "big-transaction": {
        "pgoutput": {
            big.FIRST_BYTE: {OURS: (-400,), PG_RECVLOGICAL: (-410,)},
            big.NUDGE: {OURS: (90,)},
            big.SMALL: {OURS: (800,), PG_RECVLOGICAL: (900,)},
        },
    },
    "memory": {"one transaction, wal2json": {memory.ABOVE: {OURS: (4,), PGNUDGE: (0.7,)}}},
    "clear": {
        "one version": {
            clear.SECONDS: {OURS: (1,), clear.PEER: (8,)},
            clear.WAITS: {OURS: (1,), clear.PEER: (8,), clear.NOBODY: (0.2,)},
        }
    },
    "hit": {
        f"{backend}, {case}": {hit.FIGURE: {OURS: (150,), hit.PLAIN: (120, 130)}}
        for backend in hit.BACKENDS
        for case in hit.CASES
    },
    "observed": {
        observed_values.hit(1): {hit.FIGURE: {OURS: (70,), observed_values.DECLARED: (71,)}},
        observed_values.miss(1): {hit.FIGURE: {OURS: (900,), observed_values.UNCACHED: (400,)}},
        "Wagtail, 9 pages": {
            served.RATE: {OURS: (300,), NO_CACHE: (20,), CACHE_PAGE: (310,)},
            served.PAST: {OURS: (0,), NO_CACHE: (0,), CACHE_PAGE: (55,)},
        },
    },
    "start": {start.CASE: {start.FIGURE: {OURS: (600,), start.PYTHON: (13,)}}},
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    for name, samples in RESULTS.items():
        report = Report(name)
        for case, figures in samples.items():
            for figure, contenders in figures.items():
                for contender, values in contenders.items():
                    report.add(case, contender, **{figure: list(values)})
        (folder / f"{name}.json").write_text(json.dumps(report.as_json()))
    return folder


def test_every_benchmark_has_a_picture() -> None:
    assert PICTURES.keys() == RESULTS.keys() == SPEED.keys()


def test_pictures_are_the_same_each_time_and_name_who_was_measured(
    results: Path, tmp_path: Path
) -> None:
    for each in ("first", "second"):
        assert main(["plots", str(results), "--to", str(tmp_path / each)]) == 0
    expected = {f"{file}.svg" for pictures in PICTURES.values() for file in pictures}
    tables = {f"{name}.md" for name in PICTURES}
    assert {path.name for path in (tmp_path / "first").iterdir()} == expected | tables
    for name in expected:
        drawn = (tmp_path / "first" / name).read_bytes()
        assert drawn == (tmp_path / "second" / name).read_bytes()
        assert b"<dc:date>" not in drawn
        assert OURS in "".join(ET.fromstring(drawn).itertext())


def test_tables_have_medians_spread_and_what_was_missed(results: Path, tmp_path: Path) -> None:
    report = Report("start", made="2026-01-02")
    report.facts["server"] = "a server"
    report.add("a case", OURS, ms=[900.0, 1100.0, 1200.0], again=3)
    report.add("a case", PGNUDGE, ms=2)
    report.at_most("until live", 1100, 1000, "ms")
    report.at_least("times", 2, 1.5)
    report.notes += ["A note."] * 2
    (results / "start.json").write_text(json.dumps(report.as_json()))
    assert main(["plots", str(results), "--to", str(tmp_path / "to")]) == 0
    lines = (tmp_path / "to" / "start.md").read_text().splitlines()
    assert lines[0].startswith("Measured 2026-01-02. machine: ")
    assert lines[0].endswith("; server: a server.")
    assert lines[2:] == [
        "| aim | at | found | |",
        "|---|---|---|---|",
        "| until live | ≤ 1,000 ms | 1,100 | **missed** |",
        "| times | ≥ 1.5 | 2 | met |",
        "",
        "| a case | ms | again |",
        "|---|---|---|",
        f"| **{OURS}** | 1,100 (900 … 1,200) | 3 |",
        f"| {PGNUDGE} | 2 |  |",
        "",
        "",
        "A note.",
    ]


def test_a_folder_without_results_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plots", str(tmp_path)]) == 2
    assert "no results" in capsys.readouterr().err
