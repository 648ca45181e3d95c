"""The short way to a cache: a round of deletes written at once, its answers awaited by the thread.

What fails here has only not been done yet: it is done in the ordinary way, which retries, tells
what is wrong, and knows what a cache may have forgotten.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from django_pgnudge import caches
from django_pgnudge.errors import CacheError
from django_pgnudge.log import get_logger

if TYPE_CHECKING:
    from django_pgnudge.caches.rounds import Pipeline, Round, RoundAnswer
    from django_pgnudge.daemon.invalidation import Invalidation

logger = get_logger("django_pgnudge.daemon")

OPEN_AGAIN_AFTER: Final = 1.0
"""Seconds, so that a connection which breaks every time is not made for every round."""


class Express:
    """For one cache. All is called in the cache's thread, but `send` by whoever has its turn."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._pipeline: Pipeline | None = None
        self._open_at = 0.0

    def open(self) -> None:
        """Make the connection if there can be one. The cache has answered a moment ago."""
        if self._pipeline is not None or time.monotonic() < self._open_at:
            return
        self._open_at = time.monotonic() + OPEN_AGAIN_AFTER
        try:
            self._pipeline = caches.pipeline(self._alias)
        except CacheError as exc:
            logger.debug("%s", exc)
        else:
            if self._pipeline is None:
                self._open_at = float("inf")

    def send(
        self, invalidation: Invalidation, mark: tuple[str, int] | None, *, waiting: bool
    ) -> Round | None:
        """Write the whole of ``invalidation``, or nothing and say None.

        Without ``waiting`` only what can be written without waiting is.
        """
        if self._pipeline is None or not invalidation.is_plain():
            return None
        try:
            it = self._pipeline.round(invalidation.tokens, invalidation.kills, mark)
            if not (waiting or it.small):
                return None
            self._pipeline.send(it)
        except Exception as exc:
            self._drop(exc)
            return None
        return it

    def receive(self, it: Round) -> RoundAnswer | None:
        """What came of it; None if that is not known."""
        assert self._pipeline is not None
        try:
            answer = self._pipeline.receive(it)
        except Exception as exc:
            self._drop(exc)
            return None
        if answer.refused:
            self._drop(CacheError(answer.refused))
            self._open_at = float("inf")
        return answer

    def close(self) -> None:
        """Disconnect."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def _drop(self, exc: Exception) -> None:
        logger.debug("Cache %r: %r; what was sent at once is done again.", self._alias, exc)
        self._open_at = time.monotonic() + OPEN_AGAIN_AFTER
        self.close()
