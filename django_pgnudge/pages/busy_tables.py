"""Tables that change between any two requests for a page: such a page is not worth keeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from django_pgnudge.memo import Memo

MOST_IN_A_ROW: Final = 10
"""So often a route's pages are stored for nothing, ended by one token, before it rests."""

REST: Final = 60.0
"""For so many seconds the pages of a route are then not stored."""

_MOST_PAGES: Final = 2000
_MOST_ROUTES: Final = 1000


@dataclass(slots=True)
class _Row:
    """Changes after which entries of one route were stored again, with no hit in between."""

    count: int
    suspects: Mapping[str, str]
    """The key and the last token of each table that was among every of these changes."""


class BusyTables:
    """What one process has seen of the pages of each route.

    A page that was stored again says by its tokens what has ended it. A page that ran out of time
    says nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: Memo[str, Mapping[str, str]] = Memo(_MOST_PAGES)
        self._rows: Memo[str, _Row] = Memo(_MOST_ROUTES)
        self._resting: Memo[str, tuple[float, str]] = Memo(_MOST_ROUTES)

    def hit(self, route: str) -> None:
        """A page of this route was served from the cache."""
        self._rows.pop(route, None)

    def stored(self, route: str, entry: str, tokens: Mapping[str, str]) -> str | None:
        """A page is stored under ``tokens``; the key of the token that ends it each time, if any.

        Then the route rests.
        """
        before = self._tokens.get(entry, {})
        self._tokens[entry] = tokens
        ended = {key: token for key, token in tokens.items() if before.get(key, token) != token}
        if not ended:
            return None
        row = self._rows.get(route)
        if row is None or row.suspects.keys().isdisjoint(ended):
            row = self._rows[route] = _Row(0, dict.fromkeys(ended, ""))
        # One change ends many pages, and counts once.
        changed = {key: ended[key] for key, token in row.suspects.items()
                   if ended.get(key, token) != token}  # fmt: skip
        if not changed:
            return None
        row.count, row.suspects = row.count + 1, changed
        if row.count < MOST_IN_A_ROW:
            return None
        self._rows.pop(route, None)
        busy = min(row.suspects)
        self._resting[route] = self._clock() + REST, busy
        return busy

    def resting_for(self, route: str) -> str | None:
        """The key of the token for which the pages of this route are not stored now, if any."""
        until, busy = self._resting.get(route, (0.0, ""))
        if not busy:
            return None
        if self._clock() >= until:
            self._resting.pop(route, None)
            return None
        return busy
