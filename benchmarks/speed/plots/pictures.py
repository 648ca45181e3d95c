"""Which figure of which benchmark is drawn how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.served import run as served
from benchmarks.speed import big_transaction as big
from benchmarks.speed import clear, hit, latency, memory, observed_values, start, throughput
from benchmarks.speed.peers.followers import PG_RECVLOGICAL
from benchmarks.speed.plots.drawing import Aim, bars, dots, figure, legend, ordered
from benchmarks.speed.rows import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from benchmarks.speed.report import Report

__all__ = ["PICTURES"]

PLUGINS: Final = ("pgoutput", "wal2json", "test_decoding")
P50, P99 = "p50", "p99"


def _of_throughput(report: Report, measured: str, words: str, limit: Aim | None) -> Figure:
    drawn, panels = figure(9, 7, len(TABLES), len(throughput.SHAPES))
    for row, table in enumerate(TABLES):
        for column, (shape, shape_words) in enumerate(throughput.SHAPES.items()):
            axes = panels[row][column]
            cases = {each: str(throughput.Case(table, shape, each)) for each in PLUGINS}
            bars(axes, report, cases, measured, aim=limit if table == "narrow" else None)
            axes.set_title(f"{table} rows, {shape_words}")
            axes.set_xlabel(words)
    legend(drawn, report, measured, {})
    return drawn


def rows_per_second(report: Report) -> Figure:
    return _of_throughput(report, throughput.RATE, "rows a second (more is better)", None)


def cpu_per_row(report: Report) -> Figure:
    words = "client CPU, µs a row (less is better)"
    return _of_throughput(report, throughput.CPU, words, Aim(2, "aim"))


def commit_to_key(report: Report) -> Figure:
    """p50 and p99 on a logarithmic axis."""
    drawn, panels = figure(9, 4.2, 1, len(report.samples))
    markers = {P50: "o", P99: "D"}
    for axes, (case, figures) in zip(panels[0], report.samples.items(), strict=True):
        rows = [
            (
                each,
                each,
                {
                    P50: report.median(case, latency.P50, each),
                    P99: report.median(case, latency.P99, each),
                },
            )
            for each in ordered(list(figures[latency.P50]))
        ]
        axes.set_xscale("log")
        busy = case != latency.IDLE
        dots(axes, rows, markers, aim=Aim(20, "aim, p99") if busy else Aim(1, "aim, p50"))
        axes.set_title(case)
        axes.set_xlabel("COMMIT sent to key gone, ms")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 6)
    legend(drawn, report, "", markers)
    return drawn


def timeline(report: Report) -> Figure:
    """From COMMIT on: the first byte, the first nudge, the small commit's nudge."""
    drawn, panels = figure(9, 1.2 + 1.2 * len(report.samples), len(report.samples), 1)
    markers = {"first byte": "|", "first nudge": "o", "the small commit's nudge": "s"}
    named = dict(zip((big.FIRST_BYTE, big.NUDGE, big.SMALL), markers, strict=True))
    every = [
        report.median(case, each, contender)
        for case, figures in report.samples.items()
        for each in named
        for contender in figures.get(each, {})
    ]
    for (axes,), case in zip(panels, report.samples, strict=True):
        rows = []
        for contender in ordered(list(report.samples[case][big.SMALL])):
            moments = {
                name: report.median(case, each, contender)
                for each, name in named.items()
                if report.has(case, each, contender)
            }
            label = f"{contender} (rows)" if contender == PG_RECVLOGICAL else contender
            rows.append((label, contender, moments))
        if min(every) > 10:
            axes.set_xscale("log")
            axes.set_xlim(10, max(every) * 8)
        else:
            # With streaming the first byte comes before COMMIT.
            axes.set_xscale("symlog", linthresh=10)
            axes.set_xlim(min(0, *every) * 1.5, max(every) * 20)
        dots(axes, rows, markers, aim=Aim(150, "aim, first nudge") if case == PLUGINS[0] else None)
        axes.set_title(case)
    panels[-1][0].set_xlabel("ms after COMMIT")
    legend(drawn, report, "", markers)
    return drawn


def growth(report: Report) -> Figure:
    drawn, panels = figure(9, 1 + 0.6 * len(report.samples))
    cases = {each.replace(", ", ",\n"): each for each in report.samples}
    bars(panels[0][0], report, cases, memory.ABOVE, aim=Aim(20, "aim"))
    panels[0][0].set_xlabel("most memory above idle, MB")
    legend(drawn, report, memory.ABOVE, {})
    return drawn


def clearing(report: Report) -> Figure:
    drawn, panels = figure(9, 2.6, 1, 2)
    case = next(iter(report.samples))
    left, right = panels[0]
    bars(left, report, {case: case}, clear.SECONDS, names=True)
    left.set_title(case)
    left.set_xlabel("seconds")
    bars(right, report, {case: case}, clear.WAITS, names=True, aim=Aim(5, "aim"))
    right.set_title("meanwhile")
    right.set_xlabel(clear.WAITS)
    return drawn


def hits(report: Report) -> Figure:
    drawn, panels = figure(9, 5.5, 1, len(hit.BACKENDS))
    for axes, backend in zip(panels[0], hit.BACKENDS, strict=True):
        bars(axes, report, {each: f"{backend}, {each}" for each in hit.CASES}, hit.FIGURE)
        axes.set_title(backend)
        axes.set_xlabel("µs a hit")
    legend(drawn, report, hit.FIGURE, {})
    return drawn


def observed(report: Report) -> Figure:
    """Hits and misses of values, each on an axis of its own."""
    drawn, panels = figure(9, 4.4, 2, 2)
    cases = (
        map(observed_values.hit, observed_values.TABLES),
        map(observed_values.miss, observed_values.QUERIES),
    )
    for row, of_row in zip(panels, cases, strict=True):
        for axes, case in zip(row, of_row, strict=True):
            bars(axes, report, {"": case}, hit.FIGURE)
            axes.set_title(case)
            axes.set_xlabel("µs (less is better)")
    legend(drawn, report, hit.FIGURE, {})
    return drawn


def sites(report: Report) -> Figure:
    """What each served, and how much of it too old."""
    drawn, panels = figure(9, 3.2, 1, 2)
    cases = {
        each.split(",")[0]: each for each in report.samples if served.RATE in report.samples[each]
    }
    for axes, measured in zip(panels[0], (served.RATE, served.PAST), strict=True):
        bars(axes, report, cases, measured)
    panels[0][0].set_xlabel("requests a second (more is better)")
    panels[0][1].set_xlabel("answers that were staler than the lease")
    legend(drawn, report, served.RATE, {})
    return drawn


def starting(report: Report) -> Figure:
    drawn, panels = figure(9, 2.2)
    case = {start.CASE: start.CASE}
    bars(panels[0][0], report, case, start.FIGURE, names=True, aim=Aim(start.REACH, "aim"))
    panels[0][0].set_xlabel("ms from the start of the process")
    return drawn


PICTURES: Final[dict[str, dict[str, Callable[[Report], Figure]]]] = {
    "throughput": {
        "throughput": rows_per_second,
        "cpu": cpu_per_row,
    },
    "latency": {"latency": commit_to_key},
    "big-transaction": {"big-transaction": timeline},
    "memory": {"memory": growth},
    "clear": {"clear": clearing},
    "hit": {"hit": hits},
    "observed": {"observed": observed, "observed-sites": sites},
    "start": {"start": starting},
}
"""By the benchmark's name, then by the file's."""
