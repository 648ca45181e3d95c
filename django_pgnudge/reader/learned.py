"""Which tables a function was seen to touch, so that their tokens can be taken before it runs.

A value is kept only if its tokens were taken before its queries. So what a function touched in its
last runs, with any arguments, is assumed for the next one. If a run touches more, its result is
returned and not kept, and the next run has the tokens of this too.
"""

from __future__ import annotations

from typing import Final

from django_pgnudge.memo import Memo

_MOST_SETS: Final = 32
"""Different sets of tables that are remembered of one function; the oldest goes first."""


class LearnedTables:
    """By the name of a function, page or fragment: the payloads that its runs touched."""

    def __init__(self, most: int) -> None:
        self._sets: Memo[str, tuple[frozenset[str], ...]] = Memo(most)
        self._unions: Memo[str, frozenset[str]] = Memo(most)

    def of(self, what: str) -> frozenset[str] | None:
        """The same object again until something new is learned; None before anything is."""
        return self._unions.get(what)

    def learn(self, what: str, payloads: frozenset[str]) -> bool:
        """Remember what one run touched; whether that is new. Threads may do so at once."""
        sets = self._sets.get(what, ())
        if payloads in sets:
            return False
        sets = (*sets, payloads)[-_MOST_SETS:]
        self._sets[what] = sets
        union = frozenset().union(*sets)
        if union != self._unions.get(what):
            self._unions[what] = union
        return True
