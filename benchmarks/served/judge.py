"""Answers held against what had been committed when they were asked for.

An answer is too old by as long as the next version of anything it shows had been there. Both ends
are measured against it: a version counts from when its COMMIT had returned, an answer from before
its request was sent. So whatever is found stale was stale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.served.marks import Mark

__all__ = ["NOTICED", "Answer", "Commit", "Verdict", "judge"]

NOTICED: Final = 1.0
"""Seconds from which on somebody sees that a page is old."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A version of an item, and when its COMMIT had returned (monotonic)."""

    kind: str
    number: int
    version: int
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """When it was asked for (monotonic), and what it shows."""

    began: float
    marks: tuple[Mark, ...]


@dataclass(slots=True)
class Verdict:
    """How many of the answers were old."""

    answers: int = 0
    past_lease: int = 0
    noticed: int = 0
    stalest: float = 0.0


def judge(answers: Iterable[Answer], commits: Iterable[Commit], lease: float) -> Verdict:
    """Count the answers that were older than ``lease`` seconds, and than `NOTICED`."""
    newer = _newer(commits)
    verdict = Verdict()
    for answer in answers:
        age = max((answer.began - newer.get(mark, answer.began) for mark in answer.marks),
                  default=0.0)  # fmt: skip
        verdict.answers += 1
        verdict.past_lease += age > lease
        verdict.noticed += age > NOTICED
        verdict.stalest = max(verdict.stalest, age)
    return verdict


def _newer(commits: Iterable[Commit]) -> Mapping[Mark, float]:
    """By a mark: since when there is a newer version of its item."""
    of_item: dict[tuple[str, int], list[Commit]] = defaultdict(list)
    for commit in commits:
        of_item[commit.kind, commit.number].append(commit)
    since: dict[Mark, float] = {}
    for (kind, number), versions in of_item.items():
        versions.sort(key=lambda each: each.version)
        if [each.version for each in versions] != list(range(1, len(versions) + 1)):
            raise ValueError(f"{kind}{number} was written by two, or not in order")
        for commit in versions:
            since[kind, number, commit.version - 1] = commit.at
    return since
