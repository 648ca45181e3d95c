"""Breadth first through all states, so that what is found first is a shortest way to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


class TooManyStatesError(Exception):
    """The bounds let in more states than the limit."""


@dataclass(frozen=True, slots=True)
class Explored(Generic[S]):
    """``trace``: what led to a violation, step by step with the state after each; None if nothing
    does, and then ``states`` is all there are."""

    states: int
    steps: int
    seconds: float
    trace: tuple[tuple[str, S], ...] | None

    def told(self) -> str:
        """The trace in words, and the state it ends in."""
        if self.trace is None:
            return f"nothing is served too old in {self.states:,} states"
        lines = [f"{number:>3}. {words}" for number, (words, _) in enumerate(self.trace, 1)]
        return "\n".join([*lines, "Served too old:", f"     {self.trace[-1][1]}"])


def explore(
    beginning: S,
    steps: Callable[[S], Iterator[tuple[str, S]]],
    violates: Callable[[S], bool],
    *,
    limit: int = 5_000_000,
) -> Explored[S]:
    """Every state that ``steps`` lead to, until one ``violates``.

    ``steps`` must name states uniquely: equal ones are the same, and are looked at once.
    """
    started = time.process_time()
    came: dict[S, tuple[S, str] | None] = {beginning: None}
    layer = [beginning]
    taken = 0
    while layer:
        following = []
        for state in layer:
            for words, after in steps(state):
                taken += 1
                if after in came:
                    continue
                came[after] = state, words
                if violates(after):
                    seconds = time.process_time() - started
                    return Explored(len(came), taken, seconds, _way(came, after))
                following.append(after)
        if len(came) > limit:
            raise TooManyStatesError(f"more than {limit:,} states")
        layer = following
    return Explored(len(came), taken, time.process_time() - started, None)


def _way(came: dict[S, tuple[S, str] | None], state: S) -> tuple[tuple[str, S], ...]:
    trace = []
    while (step := came[state]) is not None:
        before, words = step
        trace.append((words, state))
        state = before
    return tuple(reversed(trace))
