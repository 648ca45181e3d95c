"""What a run found, in Markdown: what was aimed at, then every figure of every contender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.speed.report import OURS, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.speed.report import Report

__all__ = ["page"]


def page(report: Report) -> str:
    """A part of a page, to be included."""
    facts = "; ".join(f"{name}: {value}" for name, value in report.facts.items())
    lines = [f"Measured {report.made}. {facts}.", "", *_aims(report), "", *_figures(report), ""]
    lines += [f"{note}\n" for note in dict.fromkeys(report.notes)]
    return "\n".join(lines)


def _aims(report: Report) -> Iterator[str]:
    yield "| aim | at | found | |"
    yield "|---|---|---|---|"
    for aim in report.aims:
        limit = f"{'≥' if aim.at_least else '≤'} {number(aim.limit)} {aim.unit}".rstrip()
        verdict = "met" if aim.met else "**missed**"
        yield f"| {aim.words} | {limit} | {number(aim.value)} | {verdict} |"


def _figures(report: Report) -> Iterator[str]:
    """Medians, with the least and the most of the samples behind them."""
    for case, figures in report.samples.items():
        contenders = dict.fromkeys(name for each in figures.values() for name in each)
        yield f"| {case} | {' | '.join(figures)} |"
        yield "|---" * (len(figures) + 1) + "|"
        for contender in contenders:
            cells = [_cell(report, case, figure, contender) for figure in figures]
            name = f"**{contender}**" if contender == OURS else contender
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def _cell(report: Report, case: str, figure: str, contender: str) -> str:
    if not report.has(case, figure, contender):
        return ""
    samples = report.of(case, figure, contender)
    median = number(report.median(case, figure, contender))
    low, high = number(min(samples)), number(max(samples))
    return median if low == high else f"{median} ({low} … {high})"
