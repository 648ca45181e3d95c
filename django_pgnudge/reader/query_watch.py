"""What is queried while a value is computed.

A router may choose any alias, and a function may name one itself. So an execute wrapper on every
connection of every thread sees what is really queried. It notes what a computation does, and which
sessions may have another search_path than they began with. It does not see statements that bypass
Django's cursors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from django.db import connections
from django.db.backends.signals import connection_created

from django_pgnudge.reader.scope import Scope, on_loop, scope_on, sets_path
from django_pgnudge.reader.session import INTRANS, has_written, reported_path, status

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

# Statements that begin with these leave search_path, role and temporary tables alone, but for the
# functions they call and what they select into.
_PLAIN: Final = frozenset({
    "analyze", "begin", "close", "commit", "copy", "declare", "delete", "explain", "fetch",
    "insert", "listen", "lock", "merge", "move", "notify", "release", "rollback", "savepoint",
    "select", "start", "table", "truncate", "update", "vacuum", "values", "with",
})  # fmt: skip

_ORM: Final = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ")
"""Most statements begin with these."""

# Any of these in another statement may change what a name means in this session.
_TELLING: Final = (
    "search_path", "schema", "role", "authorization", "discard", "reset", "temp",
)  # fmt: skip

_FIRST_WORD: Final = re.compile(r"(?:[\s(]|/\*.*?\*/|--[^\n]*\n)*([a-z]+)", re.DOTALL)
_INTO_TEMPORARY: Final = re.compile(r"\binto\s+(?:local\s+|global\s+)?temp|\bpg_temp\b")


class Seen:
    """What the computation of one value was seen to do.

    ``aliases`` and ``scopes`` are the others that it queried. ``altered``: it changed its session.
    ``queried``: it queried its own alias. ``entered``: it was in a transaction at some time.
    ``wrote``: it wrote in a transaction that it opened.
    """

    __slots__ = ("aliases", "altered", "atomic", "entered", "queried", "scope", "scopes", "using",
                 "wrote")  # fmt: skip

    def __init__(self, using: str, scope: Scope) -> None:
        self.using = using
        self.scope = scope
        self.aliases: set[str] = set()
        self.scopes: set[Scope] = set()
        self.altered = self.queried = self.entered = self.wrote = False
        self.atomic: bool | None = None
        """Whether a transaction of Django's was open before; None until it begins."""

    def begin(self) -> None:
        """The computation begins, or goes on."""
        if self.atomic is None:
            self.atomic = not on_loop() and connections[self.using].in_atomic_block

    def will_run(self, connection: BaseDatabaseWrapper, *, alters: bool) -> None:
        """A statement is about to be run."""
        if connection.alias != self.using:
            self.aliases.add(connection.alias)
            return
        self.queried = True
        if alters and not sets_path(connection):
            self.altered = True
        scope = scope_on(connection)
        if scope != self.scope:
            self.scopes.add(scope)

    def has_run(self, connection: BaseDatabaseWrapper) -> None:
        """A statement has been run.

        What a transaction wrote cannot be asked when it has ended. One that Django had opened
        before outlives the computation; any other is asked while it lasts.
        """
        if connection.alias != self.using or connection.vendor != "postgresql":
            return
        if connection.connection is not None and status(connection.connection) == INTRANS:
            self.entered = True
            if not self.atomic and not self.wrote:
                self.wrote = has_written(connection)

    def reason(self) -> str | None:
        """Why the value may depend on more than its tokens cover; None if it does not."""
        if self.aliases:
            return (
                f"it queried the database {', '.join(map(repr, sorted(self.aliases)))}, whose"
                f" changes the tokens of {self.using!r} do not follow"
            )
        if self.scopes:
            return f"it queried the schemas {', '.join(sorted(map(repr, self.scopes)))} too"
        if self.altered:
            return "it changed the search_path, the role or the temporary tables of its session"
        return None


_watchers: ContextVar[tuple[Seen, ...]] = ContextVar("pgnudge_watchers", default=())

_going_on: ContextVar[tuple[Seen, ...]] = ContextVar("pgnudge_watching_on", default=())
"""Those that watch past the end of the block around them."""


@contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Note what is done in this block, and in the threads that asgiref runs for it.

    May be entered again where a computation goes on later. Blocks within note it too.
    """
    seen.begin()
    token = _watchers.set((*_watchers.get(), seen))
    try:
        yield
    finally:
        _watchers.reset(token)


def watch_on(seen: Seen) -> Callable[[], object]:
    """Note from here on, past the end of any block, until the returned function is called."""
    seen.begin()
    _going_on.set((*_going_on.get(), seen))
    return lambda: _going_on.set(tuple([each for each in _going_on.get() if each is not seen]))


def watch_nothing() -> None:
    """End all that goes on in this thread, for an earlier request may have left something."""
    _watchers.set(())
    _going_on.set(())


def unwatched() -> AbstractContextManager[None]:
    """Note nothing: for the package's own statements."""
    # Mostly nothing watches a hit.
    return _unwatched() if _watchers.get() or _going_on.get() else _AS_IT_IS


_AS_IT_IS: Final = nullcontext()


@contextmanager
def _unwatched() -> Iterator[None]:
    token, going_on = _watchers.set(()), _going_on.set(())
    try:
        yield
    finally:
        _going_on.reset(going_on)
        _watchers.reset(token)


def execute_wrapper(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """The execute wrapper of every connection."""
    connection: BaseDatabaseWrapper = context["connection"]
    alters = alters_session(sql, params)
    if alters and (notes := _notes_of(connection.connection)) is not None:
        notes.doubt = True
    watchers = _watchers.get() + _going_on.get()
    if not watchers:
        return execute(sql, params, many, context)
    with unwatched():
        for seen in watchers:
            seen.will_run(connection, alters=alters)
    try:
        return execute(sql, params, many, context)
    finally:
        with unwatched():
            for seen in watchers:
                seen.has_run(connection)


def alters_session(sql: Any, params: Any = None) -> bool:
    """Whether a statement may change what a table's name means to its session."""
    if not isinstance(sql, str):  # a Composable of the driver's
        return True
    lowered = sql.lower()
    if not sql.startswith(_ORM) or ";" in sql:
        found = _FIRST_WORD.match(lowered)
        if found is None or found[1] not in _PLAIN or ";" in lowered.rstrip().removesuffix(";"):
            return any(word in lowered for word in _TELLING) or (
                found is not None and found[1] in ("do", "call", "execute")
            )
    if "set_config" in lowered:
        said = lowered + repr(params).lower()
        return any(word in said for word in ("search_path", "role", "authorization"))
    return "temp" in lowered and _INTO_TEMPORARY.search(lowered) is not None


class _Notes:
    """On one session: whether names may mean something else in it than when it was last asked."""

    __slots__ = ("__weakref__", "doubt", "reported")

    def __init__(self, raw: Any) -> None:
        self.doubt = False
        self.reported = reported_path(raw)


_notes: WeakKeyDictionary[Any, _Notes] = WeakKeyDictionary()
"""By the driver's connection: a pool hands one to several of Django's, in turn."""


def is_doubtful(connection: BaseDatabaseWrapper, *, asked_each_time: bool = False) -> bool:
    """Whether the session must be asked for its search_path before the cache is used."""
    raw = connection.connection
    notes = _notes_of(raw)
    if execute_wrapper not in connection.execute_wrappers:
        wrap(connection)
        if notes is not None:
            notes.doubt = True
    if sets_path(connection):
        return False
    if notes is None or notes.doubt or asked_each_time:
        return True
    return notes.reported is not None and reported_path(raw) != notes.reported


def trust(connection: BaseDatabaseWrapper) -> None:
    """The session was found to have the search_path it should have.

    Only for a session outside a transaction: a search_path that is set inside may end with it.
    """
    raw = connection.connection
    notes = _notes_of(raw)
    if notes is not None:
        notes.doubt, notes.reported = False, reported_path(raw)


def _notes_of(raw: Any) -> _Notes | None:
    try:
        notes = _notes.get(raw)
        if notes is None:
            notes = _notes[raw] = _Notes(raw)
    except TypeError:  # a driver whose connections cannot be remembered
        return None
    return notes


def wrap(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Put the wrapper on a connection, outermost.

    ``connection.execute_wrapper()`` takes away the last one, so it must not be last: a connection
    is often made inside such a block.
    """
    if execute_wrapper not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, execute_wrapper)
    if connection.vendor == "postgresql" and connection.connection is not None:
        _notes_of(connection.connection)


def wrap_connections() -> None:
    """Watch every connection that is made, and those that there are."""
    connection_created.connect(wrap, dispatch_uid="django_pgnudge.reader.query_watch")
    for connection in connections.all(initialized_only=True):
        wrap(connection)
