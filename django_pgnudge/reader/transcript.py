"""The statements that a request has run so far, for fragments that depend on what it has read.

Nothing is noted until a process has compiled such a fragment. From the next request on each request
has a transcript, and so has each block of ``nudged.reading()``. `explained` finds the tables.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from django_pgnudge.reader.request_thread import request
from django_pgnudge.reader.statements import only_sets_search_path

if TYPE_CHECKING:
    from django_pgnudge.reader.observation import Observation
    from django_pgnudge.reader.scope import Scope

MOST_STATEMENTS: Final = 500
"""Different statements that are kept of one request."""

_VALUES: Final = frozenset({
    int, str, bool, float, bytes, NoneType, Decimal, dt.date, dt.datetime, dt.time, dt.timedelta,
    uuid.UUID,
})  # fmt: skip
_LISTS: Final = frozenset({list, tuple})
_OF_DRIVERS: Final = ("psycopg.types.", "psycopg2._json", "psycopg2._range")


class Statement(NamedTuple):
    """One statement; ``many``: it was run by ``executemany``."""

    using: str
    scope: Scope
    sql: Any
    params: Any
    many: bool

    def is_plain(self) -> bool:
        """Whether its text alone tells which tables it reads.

        Drivers write a parameter of some types as SQL, as psycopg2 does with ``AsIs``.
        """
        return type(self.sql) is str and not self.many and _are_values(self.params)


class Transcript:
    """What was run so far.

    ``observations`` have what PostgreSQL said of the statements that were observed while they ran,
    each with its database alias.
    ``why`` says why something may be missing; empty if all is there.
    """

    __slots__ = ("__weakref__", "_others", "_plain", "observations", "why")

    def __init__(self) -> None:
        self._plain: dict[tuple[str, Scope, str], Statement] = {}
        self._others: list[Statement] = []
        self.observations: dict[Observation, str] = {}
        self.why = ""

    def __iter__(self) -> Iterator[Statement]:
        yield from self._plain.values()
        yield from self._others

    def add(self, statement: Statement) -> None:
        """A statement is about to run."""
        if not (self._plain or self._others or self.observations) and only_sets_search_path(
            statement.sql
        ):
            return  # before all that is read; a value is kept only if the path is its scope
        if statement.is_plain():
            key = statement.using, statement.scope, statement.sql
            if key not in self._plain and self._has_room():
                self._plain[key] = statement
        elif self._has_room():
            self._others.append(statement)

    def doubt(self, why: str) -> None:
        """Not all is noted: the first reason counts."""
        self.why = self.why or why

    def _has_room(self) -> bool:
        if len(self._plain) + len(self._others) < MOST_STATEMENTS:
            return True
        self.doubt(f"the request ran more than {MOST_STATEMENTS} different statements before it")
        return False


class _Taking:
    """Whether transcripts are taken in this process, and those that are."""

    def __init__(self) -> None:
        self.is_on = False
        # Weak, for a request that is cut off may never be told to have finished.
        self._open: WeakSet[Transcript] = WeakSet()
        self._lock = threading.Lock()

    def begin(self) -> Transcript:
        transcript = Transcript()
        with self._lock:
            self._open.add(transcript)
        return transcript

    def end(self, transcript: Transcript) -> None:
        with self._lock:
            self._open.discard(transcript)

    def open(self) -> list[Transcript]:
        with self._lock:
            return list(self._open)


taking: Final = _Taking()

_of_blocks: ContextVar[tuple[Transcript, ...]] = ContextVar("pgnudge_transcripts", default=())
quiet: Final[ContextVar[bool]] = ContextVar("pgnudge_quiet", default=False)
"""Whether the package's own statements run."""


def take_transcripts() -> None:
    """Take them in this process, from the next request on."""
    taking.is_on = True


def begin_transcript() -> Transcript | None:
    """Begin one, if they are taken."""
    return taking.begin() if taking.is_on else None


def end_transcript(transcript: Transcript | None) -> None:
    """Nothing is added to it any more."""
    if transcript is not None:
        taking.end(transcript)


@contextmanager
def transcribed(transcript: Transcript | None) -> Iterator[None]:
    """What runs in this block, and in what has its context, is added; the transcript ends then."""
    if transcript is None:
        yield
        return
    token = _of_blocks.set((*_of_blocks.get(), transcript))
    try:
        yield
    finally:
        _of_blocks.reset(token)
        end_transcript(transcript)


def transcripts_here() -> tuple[Transcript, ...]:
    """Those that a statement of this thread belongs to.

    A thread that belongs to none may still work for any: its caller is not known.
    """
    of_request = getattr(request, "transcript", None)
    here = _of_blocks.get() if of_request is None else (*_of_blocks.get(), of_request)
    if not here and _may_work_for_another():
        for each in taking.open():
            each.doubt(
                "a thread that serves no request queried meanwhile, and may have worked for it"
            )
    return here


def _may_work_for_another() -> bool:
    return (
        getattr(request, "block", None) is None
        and threading.current_thread() is not threading.main_thread()
    )


def _are_values(params: Any) -> bool:
    if params is None:
        return True
    values: Iterable[Any] = params.values() if isinstance(params, Mapping) else params
    return all(
        kind in _VALUES
        or (kind in _LISTS and _are_values(value))
        or kind.__module__.startswith(_OF_DRIVERS)
        for value in values
        for kind in (type(value),)
    )
