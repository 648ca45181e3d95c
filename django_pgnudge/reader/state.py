"""What a process knows as a reader of one database alias, in one object that tests replace.

Everything here is bounded, may be used by several threads at once, and may be forgotten at any
time: it is then asked for again. Kept elsewhere, since it is of the process and not of an alias:
the computations under way (`single_flight`, since a circle of waiting threads may lead through
several databases), the names of functions (`function_names`), what was declared for the system
checks (`declared`), and the context variables of `nested` and `query_watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.memo import Memo
from django_pgnudge.reader.bypass import SessionBypass
from django_pgnudge.reader.dependencies import DependencyResolver
from django_pgnudge.reader.explained import ExplainedTexts
from django_pgnudge.reader.learned import LearnedTables
from django_pgnudge.reader.lease_clock import LeaseClock
from django_pgnudge.reader.relations import Relations
from django_pgnudge.reader.token_age import TokenAges

if TYPE_CHECKING:
    from django_pgnudge.reader.entries import Plan
    from django_pgnudge.reader.keys import Coverage
    from django_pgnudge.reader.nested import Ground
    from django_pgnudge.reader.scope import Scope

MOST_VALUES: Final = 4096
MOST_SCOPES: Final = 1000
MOST_CLOCKS: Final = 256
MOST_COVERAGES: Final = 32
"""Each may name thousands of tables, and another begins with every table that comes."""


class ReaderState:
    """What is known of one database alias."""

    is_of_tests = False
    """Whether a test fixture stands for the daemon: then declared dependencies are checked."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.tables = DependencyResolver(using)
        """The tables in the scope that connections begin with."""
        self.sessions = SessionBypass(using, self.resolver)
        self.values: Memo[tuple[object, ...], Any] = Memo(MOST_VALUES)
        """Each `Value` of a nudged function, by the call that it is of."""
        self.plans: Memo[tuple[object, ...], Plan] = Memo(MOST_VALUES)
        """By the entry's key, which names the database, and what the value depends on."""
        self.coverages: Memo[str, Coverage] = Memo(MOST_COVERAGES)
        """The payloads that a stream carries, by their digest."""
        self.token_ages = TokenAges()
        self.relations = Relations(using)
        self.explained = ExplainedTexts(using)
        self.learned = LearnedTables(MOST_VALUES)
        self.scopes: Memo[Scope, DependencyResolver] = Memo(MOST_SCOPES)
        self.clocks: Memo[Ground, LeaseClock] = Memo(MOST_CLOCKS)

    def resolver(self, scope: Scope) -> DependencyResolver:
        """The tables in a scope."""
        if scope is None or self.tables.is_trusting:
            return self.tables
        found = self.scopes.get(scope)
        if found is None:
            found = self.scopes[scope] = DependencyResolver(self.using, scope, self.tables)
        return found

    def clock(self, ground: Ground) -> LeaseClock:
        """What was seen of the leases of one database in one cache."""
        found = self.clocks.get(ground)
        if found is None:
            found = self.clocks[ground] = LeaseClock()
        return found


class _States(dict[str, ReaderState]):
    """By alias; at most as many as ``DATABASES`` has."""

    def __init__(self, make: Callable[[str], ReaderState]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, using: str) -> ReaderState:
        # Another thread may be first.
        return self.setdefault(using, self.make(using))


_states: Final = _States(ReaderState)


def reader_state(using: str) -> ReaderState:
    """What this process knows of a database alias."""
    return _states[using]


@contextmanager
def empty_states(make: Callable[[str], ReaderState] | None = None) -> Iterator[None]:
    """In this block nothing is known of any alias; ``make`` makes their states. For tests."""
    before, make_before = dict(_states), _states.make
    _states.clear()
    _states.make = make or make_before
    try:
        yield
    finally:
        _states.clear()
        _states.make = make_before
        _states.update(before)
