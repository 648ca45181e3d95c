"""Bars with their spread, dots, and files that are the same whenever they are drawn."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from benchmarks.served.contenders import CACHE_PAGE, NO_CACHE
from benchmarks.speed.clear import DJANGO, NOBODY, PEER
from benchmarks.speed.hit import AOURS, APLAIN, CACHALOT, CACHEOPS, PLAIN
from benchmarks.speed.latency import FLOOR, NOTIFY, PGNUDGE_AT_ONCE
from benchmarks.speed.observed_values import DECLARED, UNCACHED
from benchmarks.speed.peers.followers import OURS_WITHOUT_KEYS, PG_RECVLOGICAL
from benchmarks.speed.report import OURS, PGNUDGE, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.speed.report import Report

__all__ = ["Aim", "bars", "dots", "figure", "legend", "save", "style"]

INK: Final = "#7a7a7a"
"""Of words and lines: 4.2 to 1 against white, and as much against furo's black."""
COLOURS: Final = {
    OURS: "#2f7de1",
    OURS_WITHOUT_KEYS: "#1d9bb8",
    DJANGO: "#1d9bb8",
    AOURS: "#1d9bb8",
    PG_RECVLOGICAL: "#8b8f98",
    PGNUDGE: "#d9730d",
    PGNUDGE_AT_ONCE: "#c98a00",
    NOTIFY: "#2e9a62",
    FLOOR: "#8b8f98",
    PEER: "#d9730d",
    NOBODY: "#8b8f98",
    PLAIN: "#8b8f98",
    APLAIN: "#a07f6a",
    DECLARED: "#1d9bb8",
    UNCACHED: "#8b8f98",
    NO_CACHE: "#8b8f98",
    CACHE_PAGE: "#d9730d",
    CACHALOT: "#a663d6",
    CACHEOPS: "#d6558b",
}
"""Also the order in which contenders stand."""
OTHER: Final = "#8b8f98"

# A line needs to be longer than a dot is wide.
_SIZES: Final[dict[str, Any]] = {
    "o": {"markersize": 6},
    "D": {"markersize": 6},
    "s": {"markersize": 6},
    "|": {"markersize": 12, "markeredgewidth": 2},
}

_STYLE: Final[Any] = {
    "svg.hashsalt": "django-pgnudge",
    # Letters stay letters: to be read aloud, found, and shown in the reader's font.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


class Aim(NamedTuple):
    """A line where a figure should be."""

    value: float
    words: str


def style() -> AbstractContextManager[None]:
    """In which everything is drawn."""
    return mpl.rc_context(_STYLE)


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in inches and its axes, a two-dimensional array."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def ordered(contenders: Sequence[str]) -> list[str]:
    """As `COLOURS` has them; those it has not come last."""
    known = list(COLOURS)
    return sorted(contenders, key=lambda each: known.index(each) if each in known else len(known))


def colour(contender: str) -> str:
    return COLOURS.get(contender, OTHER)


def short(value: float) -> str:
    """As tables have it, but 152k for what has more than four digits."""
    return f"{number(value / 1000)}k" if abs(value) >= 10_000 else number(value)


def bars(
    axes: Axes, report: Report, cases: Mapping[str, str], figure: str, *,
    names: bool = False, aim: Aim | None = None,
) -> None:  # fmt: skip
    """Medians as bars, least to most as whiskers; one group for each of the cases, by label.

    names: contenders are named beside their bars, cases are not.
    """
    place = 0.0
    places, labels, furthest = [], [], 0.0
    for label, case in cases.items():
        samples = report.samples.get(case, {}).get(figure, {})
        first = place
        for contender in ordered(list(samples)):
            low, high = min(samples[contender]), max(samples[contender])
            middle = report.median(case, figure, contender)
            axes.barh(place, middle, height=0.8, color=colour(contender))
            axes.plot([low, high], [place, place], color=INK, linewidth=1)
            _write(axes, short(middle), max(high, middle), place)
            furthest = max(furthest, high)
            if names:
                places.append(place)
                labels.append(contender)
            place += 1
        if not names and place > first:
            places.append((first + place - 1) / 2)
            labels.append(label)
        place += 0.7
    if not furthest:  # a run of some cases only
        axes.set_axis_off()
        return
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - 1, -1.4 if aim else -0.7)
    axes.set_xlim(0, furthest * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.grid(axis="x")
    if aim is not None and aim.value <= furthest * 1.22:
        _mark(axes, aim)


def dots(
    axes: Axes, rows: Sequence[tuple[str, str, Mapping[str, float]]], markers: Mapping[str, str], *,
    aim: Aim | None = None,
) -> None:  # fmt: skip
    """Several moments of each row on one line; a row has a label, a contender, and moments."""
    for place, (_, contender, moments) in enumerate(rows):
        values = list(moments.values())
        axes.plot([min(values), max(values)], [place, place], color=colour(contender), alpha=0.5)
        for name, value in moments.items():
            axes.plot(value, place, markers[name], color=colour(contender), **_SIZES[markers[name]])
    for place, (_, _, moments) in enumerate(rows):
        _write(axes, " … ".join(map(short, moments.values())), max(moments.values()), place)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.grid(axis="x")
    if aim is not None:
        _mark(axes, aim)


def legend(drawn: Figure, report: Report, figure: str, markers: Mapping[str, str]) -> None:
    """Above everything: the contenders of a figure by colour, or moments by marker."""
    found = dict.fromkeys(
        itertools.chain.from_iterable(
            figures.get(figure, {}) for figures in report.samples.values()
        )
    )
    handles: list[Any] = [
        Patch(color=colour(each), label=each) for each in ordered(list(found)) if not markers
    ]
    handles += [
        Line2D([], [], marker=marker, color=INK, linestyle="", label=name, **_SIZES[marker])
        for name, marker in markers.items()
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))


def save(drawn: Figure, path: Path, *, png: bool = False) -> None:
    """As `path`.svg, and for a look as PNG on white and on black."""
    drawn.savefig(
        path.with_name(f"{path.name}.svg"),
        transparent=True,
        metadata={"Date": None, "Creator": None},
    )
    if png:
        FigureCanvasAgg(drawn)
        for ground in ("white", "black"):
            drawn.savefig(path.with_name(f"{path.name}-{ground}.png"), facecolor=ground)


def _write(axes: Axes, words: str, after: float, place: float) -> None:
    axes.annotate(
        words, (after, place), xytext=(5, 0), textcoords="offset points", va="center",
        fontsize=8, color=INK,
    )  # fmt: skip


def _mark(axes: Axes, aim: Aim) -> None:
    axes.axvline(aim.value, color=INK, linestyle="--", linewidth=1)
    axes.annotate(
        aim.words, (aim.value, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
        textcoords="offset points", va="top", fontsize=8, color=INK,
    )  # fmt: skip
