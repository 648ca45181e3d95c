"""Samples, medians, ratios, and what is aimed at.

A report is a table: in each case (`narrow, pgoutput`) each contender has samples of some figures
(`rows/s`), one or more a round. Everything printed is derived from the samples, and the samples go
into the JSON, to four digits.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

__all__ = ["Aim", "Report", "machine", "percentile"]

OURS: Final = "django-pgnudge"
"""The contender that the others are compared with."""

PGNUDGE: Final = "pgnudge 1.4.0"

MANY: Final = 100
"""Samples from which on their 99th percentile is printed too."""


@dataclass(frozen=True, slots=True)
class Aim:
    """One figure or ratio held against what it should be."""

    words: str
    value: float
    limit: float
    at_least: bool
    unit: str

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        compare = "at least" if self.at_least else "at most"
        verdict = "met   " if self.met else "MISSED"
        value, limit = number(self.value), number(self.limit)
        return f"{verdict}  {self.words}: {value} {self.unit} (aim: {compare} {limit})".rstrip()


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    quick: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    """Versions and sizes of this run, in words."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the table must know."""
    aims: list[Aim] = field(default_factory=list)
    samples: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    """By case, figure and contender."""
    paired: bool = False
    """Whether the contenders' samples of one round were taken side by side, one each: a processor
    that was slow was slow for all of them."""
    made: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Report:
        """A run of before; its machine is a fact of it."""
        return cls(
            written["name"],
            quick=written["quick"],
            paired=written.get("paired", False),
            facts={**written["machine"], **written["facts"]},
            notes=written["notes"],
            aims=[
                Aim(**{name: value for name, value in aim.items() if name != "met"})
                for aim in written["aims"]
            ],
            samples=written["samples"],
            made=written["made"],
        )

    def add(self, case: str, contender: str, **figures: float | list[float]) -> None:
        """Add samples; figures are named as they are printed, units included."""
        for figure, value in figures.items():
            of_figure = self.samples.setdefault(case, {}).setdefault(figure, {})
            values = value if isinstance(value, list) else [value]
            of_figure.setdefault(contender, []).extend(values)

    def of(self, case: str, figure: str, contender: str = OURS) -> list[float]:
        """The samples."""
        return self.samples[case][figure][contender]

    def has(self, case: str, figure: str, contender: str) -> bool:
        return bool(self.samples.get(case, {}).get(figure, {}).get(contender))

    def median(self, case: str, figure: str, contender: str = OURS) -> float:
        return statistics.median(self.of(case, figure, contender))

    def ratio(self, case: str, figure: str, over: str, contender: str = OURS) -> float:
        """The median of `contender` divided by that of `over`; where samples are `paired`, the
        median of what each round divides so."""
        if self.paired:
            pairs = zip(self.of(case, figure, contender), self.of(case, figure, over), strict=True)
            return statistics.median(one / other for one, other in pairs)
        return self.median(case, figure, contender) / self.median(case, figure, over)

    def at_least(self, words: str, value: float, limit: float, unit: str = "") -> None:
        self.aims.append(Aim(words, value, limit, at_least=True, unit=unit))

    def at_most(self, words: str, value: float, limit: float, unit: str = "") -> None:
        self.aims.append(Aim(words, value, limit, at_least=False, unit=unit))

    def text(self) -> str:
        """The table, the aims, the notes."""
        lines = [f"{self.name}{' (quick: too few rounds to quote)' if self.quick else ''}", ""]
        lines += [f"  {key}: {value}" for key, value in {**machine(), **self.facts}.items()]
        for case, figures in self.samples.items():
            lines += ["", case]
            for figure, contenders in figures.items():
                lines += [f"  {figure}"]
                lines += [
                    self._line(case, figure, contender, len(max(contenders, key=len)))
                    for contender in contenders
                ]
        lines += ["", *(str(aim) for aim in self.aims)]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines)

    def _line(self, case: str, figure: str, contender: str, width: int) -> str:
        values = self.of(case, figure, contender)
        spread = f"{number(min(values))} … {number(max(values))}"
        line = (
            f"    {contender:{width}}  {number(self.median(case, figure, contender)):>9}"
            f"  ({spread}, n={len(values)})"
        )
        if len(values) >= MANY:
            line += f"  p99 {number(percentile(values, 99))}"
        if contender != OURS and self.has(case, figure, OURS) and all(values):
            line += f"  ours / theirs {self.ratio(case, figure, contender):.3g}"
        return line

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "quick": self.quick,
            "paired": self.paired,
            "made": self.made,
            "machine": machine(),
            "facts": self.facts,
            "aims": [{**asdict(aim), "met": aim.met} for aim in self.aims],
            "notes": self.notes,
            "samples": {
                case: {
                    figure: {
                        contender: [float(f"{value:.4g}") for value in values]
                        for contender, values in contenders.items()
                    }
                    for figure, contenders in figures.items()
                }
                for case, figures in self.samples.items()
            },
        }


def machine() -> dict[str, str]:
    """What a figure depends on, without a name or a path of this machine."""
    model = platform.machine()
    memory = 0
    if (info := Path("/proc/cpuinfo")).exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return {
        "machine": f"{os.cpu_count()} x {model}, {memory} GiB, {platform.system()}",
        "Python": ".".join(map(str, sys.version_info[:3])),
        "Django": metadata.version("django"),
    }


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of the samples do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[min(len(ordered), int(rank)) - 1]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
