"""Which nudged values a computation has used: their stamps belong to its own.

A value that was served from a cache may be older than the tokens of whoever uses it, by as much as
the daemon is late in that cache. So what is computed from it is stored only under the same lease,
and stands on the tokens of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from django_pgnudge.reader.entries import MOST_TOKENS, Stamp

if TYPE_CHECKING:
    from collections.abc import Callable

Ground: TypeAlias = tuple[str, str]
"""What a value is proved by: a cache alias and the name of the lease in it."""


@dataclass(slots=True)
class _Used:
    epoch: str
    coverage: str
    tokens: dict[str, str]


class Collected:
    """The nudged values that were used, as the one stamp they come to."""

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
        """A nudged value was used that no stamp stands for."""
        self._trouble = self._trouble or f"it used {what}, which was not cached"

    def stamps(self, ground: Ground) -> tuple[Stamp, ...]:
        """What to stand on besides one's own tokens."""
        used = self._used.get(ground)
        return () if used is None else (Stamp(used.epoch, used.coverage, dict(used.tokens)),)

    def trouble(self, ground: Ground) -> str:
        """Why what was computed from them may not be stored on this ground, or nothing."""
        if self._trouble:
            return self._trouble
        for alias, lease in self._used:
            if (alias, lease) != ground:
                other = f"in the cache {alias!r}" if alias != ground[0] else "of another database"
                return f"it used a nudged value {other}, which another lease stands for"
        return ""

    def against(self, ground: Ground, stamp: Stamp) -> str:
        """Why these values may be older than the tokens of ``stamp``, or nothing."""
        trouble = self.trouble(ground)
        if not trouble and stamp.with_others(self.stamps(ground)) is None:
            return "it was handed what a nudged value returned before a change"
        return trouble


_innermost: ContextVar[Collected | None] = ContextVar("pgnudge_collected", default=None)

_going_on: ContextVar[tuple[Collected, ...]] = ContextVar("pgnudge_collecting_on", default=())
"""Those that the end of a block around them does not end."""

_block: list[Callable[[], Collected | None]] = []


def observe_blocks(block: Callable[[], Collected | None]) -> None:
    """``block`` tells what collects for the request or block at hand, if anything does."""
    _block[:] = [block]


@contextmanager
def collecting() -> Iterator[Collected]:
    """What is used inside, also by tasks that are started there and threads of asgiref's."""
    collected = Collected()
    token = _innermost.set(collected)
    try:
        yield collected
    finally:
        _innermost.reset(token)


def collect_on(collected: Collected) -> Callable[[], object]:
    """Collect from here on, past the end of any block; the function that is returned ends it."""
    _going_on.set((*_going_on.get(), collected))
    return lambda: _going_on.set(tuple([on for on in _going_on.get() if on is not collected]))


def collect_nothing() -> None:
    """A request begins: what an earlier one left open in this thread is over."""
    _innermost.set(None)
    _going_on.set(())


def note(ground: Ground, stamp: Stamp) -> None:
    """A value was served, or computed, that stands on ``stamp``."""
    for each in _here():
        each.add(ground, stamp)


def note_unkept(what: str) -> None:
    """A value was computed that nothing stands for."""
    for each in _here():
        each.add_unkept(what)


def _here() -> Iterator[Collected]:
    innermost = _innermost.get()
    if innermost is not None:
        yield innermost
    yield from _going_on.get()
    for block in _block:
        collected = block()
        if collected is not None:
            yield collected
