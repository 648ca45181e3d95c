"""Since when this process has known a token: what was read in between was read under it.

A fragment of a page shows objects that the view loaded, and a function may be handed an instance:
read before the tokens are taken. A token never comes back once it is deleted, so one that this
process had seen before the request began has stood through all of it, and whatever the request
loaded was loaded under it. Only then is such a value kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from django.core.signals import request_finished, request_started

from django_pgnudge.reader.nested import Collected, collect_nothing, observe_blocks
from django_pgnudge.reader.query_watch import watch_nothing

REMEMBERED: Final = 50_000

_request = threading.local()
_block: ContextVar[_Block | None] = ContextVar("pgnudge_reading", default=None)


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
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return since is not None and max(first, default=since) <= since


class _Block:
    """A request, or a ``with`` block: since when, and which nudged values it has used."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.used = Collected()


def _here() -> _Block | None:
    block = _block.get()
    return getattr(_request, "block", None) if block is None else block


def reading_since() -> float | None:
    """When what is at hand began to be read: the block's or the request's start."""
    block = _here()
    return None if block is None else block.since


def used_here() -> Collected | None:
    """The nudged values that the block or request has used; None outside of any."""
    block = _here()
    return None if block is None else block.used


@contextmanager
def reading() -> Iterator[None]:
    """Everything that is handed to nudged values in this block has been read in it.

    For tasks, commands and async views; a request in a thread is such a block by itself.
    """
    token = _block.set(_Block())
    try:
        yield
    finally:
        _block.reset(token)


def _begin(**kwargs: Any) -> None:
    # A response that was thrown away before it was rendered leaves its watchers.
    collect_nothing()
    watch_nothing()
    _request.block = _Block()


def _end(**kwargs: Any) -> None:
    collect_nothing()
    watch_nothing()
    _request.block = None


observe_blocks(used_here)
request_started.connect(_begin, dispatch_uid="django_pgnudge.fresh")
request_finished.connect(_end, dispatch_uid="django_pgnudge.fresh")
