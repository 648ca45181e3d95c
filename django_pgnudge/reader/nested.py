"""Which nudged values a computation, a request or a block has used.

A value that was served from a cache may be older than the tokens of a computation that uses it, by
as much as the daemon is late in that cache. So the result is stored only under the same lease, and
depends on the tokens of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.core.signals import request_finished, request_started

from django_pgnudge.reader.entries import MOST_TOKENS, Stamp
from django_pgnudge.reader.query_watch import watch_nothing
from django_pgnudge.reader.request_thread import request
from django_pgnudge.reader.transcript import (
    Transcript,
    begin_transcript,
    end_transcript,
    transcribed,
)

Ground: TypeAlias = tuple[str, str]
"""What a value is proved by: a cache alias and the name of the lease in it."""


@dataclass(slots=True)
class _Used:
    epoch: str
    coverage: str
    tokens: dict[str, str]


class Collected:
    """The nudged values that were used, as one stamp."""

    def __init__(self) -> None:
        self._used: dict[Ground, _Used] = {}
        self._trouble = ""

    def add(self, ground: Ground, stamp: Stamp) -> None:
        """A value with this stamp was used."""
        used = self._used.get(ground)
        if used is None:
            self._used[ground] = _Used(stamp.epoch, stamp.coverage, dict(stamp.tokens))
            return
        if (used.epoch, used.coverage) != (stamp.epoch, stamp.coverage):
            self._trouble = self._trouble or "it used nudged values from before and after a Resync"
            return
        for key, token in stamp.tokens.items():
            if used.tokens.setdefault(key, token) != token:
                self._trouble = (
                    self._trouble or "it used nudged values from before and after a change"
                )
                return
        if len(used.tokens) > MOST_TOKENS:
            used.tokens.clear()
            self._trouble = self._trouble or "it used more nudged values than can be named"

    def add_unkept(self, what: str) -> None:
        """A nudged value was used that has no stamp."""
        self._trouble = self._trouble or f"it used {what}, which was not cached"

    def stamps(self, ground: Ground) -> tuple[Stamp, ...]:
        """The stamps to depend on besides one's own tokens."""
        used = self._used.get(ground)
        return () if used is None else (Stamp(used.epoch, used.coverage, dict(used.tokens)),)

    def trouble(self, ground: Ground) -> str:
        """Why a result made of them may not be stored on this ground, or an empty text."""
        if self._trouble:
            return self._trouble
        for alias, lease in self._used:
            if (alias, lease) != ground:
                other = f"in the cache {alias!r}" if alias != ground[0] else "of another database"
                return f"it used a nudged value {other}, which another lease stands for"
        return ""

    def against(self, ground: Ground, stamp: Stamp) -> str:
        """Why these values may be older than the tokens of ``stamp``, or an empty text."""
        trouble = self.trouble(ground)
        if not trouble and stamp.with_others(self.stamps(ground)) is None:
            return "it was handed what a nudged value returned before a change"
        return trouble


_innermost: ContextVar[Collected | None] = ContextVar("pgnudge_collected", default=None)

_going_on: ContextVar[tuple[Collected, ...]] = ContextVar("pgnudge_collecting_on", default=())
"""Those that collect past the end of the block around them."""

_block: ContextVar[_Block | None] = ContextVar("pgnudge_reading", default=None)


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect what is used inside, also by tasks started there and by threads of asgiref."""
    collected = Collected()
    token = _innermost.set(collected)
    try:
        yield collected
    finally:
        _innermost.reset(token)


def collect_on(collected: Collected) -> Callable[[], object]:
    """Collect from here on, past the end of any block, until the returned function is called."""
    _going_on.set((*_going_on.get(), collected))
    return lambda: _going_on.set(tuple([on for on in _going_on.get() if on is not collected]))


def note(ground: Ground, stamp: Stamp) -> None:
    """A value with this stamp was served or computed."""
    for each in _here():
        each.add(ground, stamp)


def note_unkept(what: str) -> None:
    """A value without a stamp was computed."""
    for each in _here():
        each.add_unkept(what)


def _here() -> list[Collected]:
    innermost, going_on, block = _innermost.get(), _going_on.get(), _block_here()
    here = [*going_on]
    if innermost is not None:
        here.append(innermost)
    while block is not None:
        here.append(block.used)
        block = block.outer
    return here


class _Block:
    """A request, or a ``with`` block: since when, which nudged values it has used, and what it has
    queried, if that is noted."""

    def __init__(self, outer: _Block | None = None) -> None:
        self.since = time.monotonic()
        self.used = Collected()
        self.transcript = begin_transcript()
        self.outer = outer


def _block_here() -> _Block | None:
    block = _block.get()
    return getattr(request, "block", None) if block is None else block


def reading_since() -> float | None:
    """When the block or the request around this began: what it hands on was read since."""
    block = _block_here()
    return None if block is None else block.since


def used_here() -> Collected | None:
    """The nudged values that the block or the request has used; None outside of any."""
    block = _block_here()
    return None if block is None else block.used


def transcript_here() -> Transcript | None:
    """What the block or the request has queried; None if that is not noted."""
    block = _block_here()
    return None if block is None else block.transcript


@contextmanager
def reading() -> Iterator[None]:
    """Everything that is handed to nudged values in this block has been read in it.

    For tasks, commands and async views. A request in a thread is such a block by itself.
    """
    block = _Block(_block_here())
    token = _block.set(block)
    try:
        with transcribed(block.transcript):
            yield
    finally:
        _block.reset(token)


def _begin_request(**kwargs: Any) -> None:
    _end_request()
    request.block = block = _Block()
    request.transcript = block.transcript


def _end_request(**kwargs: Any) -> None:
    _forget_open()
    end_transcript(getattr(request, "transcript", None))
    request.block = request.transcript = None


def _forget_open() -> None:
    """A response that was thrown away before it was rendered leaves open what went on for it."""
    _innermost.set(None)
    _going_on.set(())
    watch_nothing()


request_started.connect(_begin_request, dispatch_uid="django_pgnudge.reader.nested")
request_finished.connect(_end_request, dispatch_uid="django_pgnudge.reader.nested")
