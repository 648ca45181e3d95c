"""Since when this process has known a token: what was read in between was read under it.

A fragment of a page shows objects that the view loaded, and a function may be handed an instance:
both were read before the tokens are taken. A token never comes back once it is deleted. So a token
that this process had seen before the request began has stood through all of the request, and
whatever the request loaded was loaded under it. Only then is such a value kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_TOKENS_SEEN: Final = 50_000


class TokenAges:
    """When each token was first seen here, by ``time.monotonic``."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def all_since(self, tokens: Iterable[str], since: float | None) -> bool:
        """Whether every token had been seen by then; those that had not are noted."""
        now = time.monotonic()
        with self._lock:
            first = [self._seen.setdefault(token, now) for token in tokens]
            while len(self._seen) > MOST_TOKENS_SEEN:
                self._seen.popitem(last=False)
        return since is not None and max(first, default=since) <= since
