"""What is queried while a value is computed.

A router may choose any alias, and a function may name one itself. So an execute wrapper on every
connection of every thread sees what is really queried. It notes what a computation does, and which
sessions may have another search_path than they began with. It does not see statements that bypass
Django's cursors. Those that Django's cursors hand to the driver past the wrapper, such as
``copy()``, run outside the transaction in which reads are observed, and nothing tells what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from django.db import connections
from django.db.backends.signals import connection_created

from django_pgnudge.reader.observation import Observation, active
from django_pgnudge.reader.read_transaction import is_reading, pause_reading, transaction_on
from django_pgnudge.reader.request_thread import may_be_a_helper
from django_pgnudge.reader.scope import Scope, on_loop, scope_on, sets_path
from django_pgnudge.reader.session import INTRANS, has_written, reported_path, status
from django_pgnudge.reader.statements import alters_session
from django_pgnudge.reader.transcript import Statement, quiet, taking, transcripts_here

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


class Seen:
    """What the computation of one value was seen to do.

    ``aliases`` and ``scopes`` are the others that it queried. ``altered``: it changed its session.
    ``queried``: it queried its own alias. ``entered``: it was in a transaction at some time.
    ``wrote``: it wrote in a transaction that it opened.
    """

    __slots__ = ("aliases", "altered", "atomic", "entered", "observation", "queried", "scope",
                 "scopes", "using", "wrote")  # fmt: skip

    def __init__(self, using: str, scope: Scope, observation: Observation | None = None) -> None:
        self.using = using
        self.observation = observation
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
        if self.observation is not None:
            active.add(self.observation)
            # The connection of a task is in another thread, where statements of others come between
            # its own: there each is observed by itself.
            if not on_loop():
                if connections[self.using].vendor == "postgresql":
                    transaction_on(connections[self.using]).enter(self.observation)
                else:
                    self.observation.doubt("its database is not PostgreSQL")

    def end(self) -> None:
        """The computation ends, or pauses."""
        if self.observation is not None:
            active.discard(self.observation)
            connection = connections[self.using]
            if not on_loop() and connection.vendor == "postgresql":
                with unwatched():
                    transaction_on(connection).leave(self.observation)

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
            if is_reading(connection):
                return
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
    token = _watchers.set((*_watchers.get(), seen))
    try:
        seen.begin()
        yield
    finally:
        _watchers.reset(token)
        seen.end()


def watch_on(seen: Seen) -> Callable[[], object]:
    """Note from here on, past the end of any block, until the returned function is called."""
    seen.begin()
    _going_on.set((*_going_on.get(), seen))

    def stop() -> None:
        going_on = _going_on.get()
        if seen in going_on:
            _going_on.set(tuple([each for each in going_on if each is not seen]))
            seen.end()

    return stop


def watch_nothing() -> None:
    """End all that goes on in this thread, for an earlier request may have left something."""
    left = (*_watchers.get(), *_going_on.get())
    _watchers.set(())
    _going_on.set(())
    for seen in left:
        seen.end()


def unwatched() -> AbstractContextManager[None]:
    """Note nothing: for the package's own statements."""
    # Mostly nothing watches a hit.
    is_watched = _watchers.get() or _going_on.get() or taking.is_on or active
    return _unwatched() if is_watched else _AS_IT_IS


_AS_IT_IS: Final = nullcontext()


@contextmanager
def _unwatched() -> Iterator[None]:
    token, going_on, was_quiet = _watchers.set(()), _going_on.set(()), quiet.set(True)
    try:
        yield
    finally:
        quiet.reset(was_quiet)
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
    observing = _observing(watchers, connection) if watchers else []
    if taking.is_on and not quiet.get():
        _transcribe(observing, connection, sql, params, many)
    if not watchers:
        if active and not quiet.get() and may_be_a_helper():
            for each in tuple(active):
                each.doubt(
                    "a thread that serves no request queried meanwhile, and may have worked for it"
                )
        return execute(sql, params, many, context)
    with unwatched():
        for seen in watchers:
            seen.will_run(connection, alters=alters)
    try:
        if observing:
            return _observed(observing, alters, execute, sql, params, many, context)
        return execute(sql, params, many, context)
    finally:
        with unwatched():
            for seen in watchers:
                seen.has_run(connection)


def _transcribe(
    observing: list[Observation], connection: BaseDatabaseWrapper, sql: Any, params: Any, many: bool
) -> None:
    """Note a statement for the fragments of this request."""
    for each in transcripts_here():
        if observing:
            each.observations[observing[0]] = connection.alias
        else:
            each.add(Statement(connection.alias, scope_on(connection), sql, params, many))


def _observing(watchers: tuple[Seen, ...], connection: BaseDatabaseWrapper) -> list[Observation]:
    """Those that PostgreSQL is asked for, whenever this connection has run a statement."""
    if connection.vendor != "postgresql":
        return []
    return [
        seen.observation
        for seen in watchers
        if seen.observation is not None and seen.using == connection.alias
    ]


def _observed(
    observing: list[Observation],
    alters: bool,
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Run a statement, and let PostgreSQL say what it touched."""
    connection: BaseDatabaseWrapper = context["connection"]
    transaction = transaction_on(connection)
    alone = [each for each in observing if each not in transaction.observations]
    is_named = bool(getattr(context["cursor"].cursor, "name", None))
    for each in alone:
        if is_named:
            each.doubt("a task reads rows from a server-side cursor when it is no longer observed")
    with transaction.statement(alone):
        transaction.before(sql, many=many, alters=alters)
        try:
            done = execute(sql, params, many, context)
        except BaseException as error:  # also one that a signal raises while it runs
            if not transaction.after(sql, error):
                raise
        else:
            transaction.after(sql, None, is_named=is_named)
            return done
        return execute(sql, params, many, context)


_PAST_WRAPPERS: Final = ("callproc", "copy", "copy_expert", "copy_from", "copy_to", "stream")
"""Methods of cursors that run statements which no execute wrapper sees."""


def _guard_cursors(connection: BaseDatabaseWrapper) -> None:
    attributes: Any = vars(connection)
    for name in ("make_cursor", "make_debug_cursor"):
        if name not in attributes:
            attributes[name] = _guarding(connection, getattr(connection, name))


def _guarding(connection: BaseDatabaseWrapper, make: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(cursor: Any) -> Any:
        made = make(cursor)
        if _watchers.get() or _going_on.get():
            for name in _PAST_WRAPPERS:
                if hasattr(cursor, name):
                    vars(made)[name] = _noting(connection, name, getattr(made, name))
        return made

    return guarded


def _noting(
    connection: BaseDatabaseWrapper, name: str, method: Callable[..., Any]
) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        watchers = _watchers.get() + _going_on.get()
        with unwatched():
            for seen in watchers:
                seen.will_run(connection, alters=False)
            for each in _observing(watchers, connection):
                each.doubt(f"it called {name}() of a cursor, which is not observed")
            pause_reading(connection)
        return method(*args, **kwargs)

    return noted


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
    _guard_cursors(connection)
    if connection.vendor == "postgresql" and connection.connection is not None:
        _notes_of(connection.connection)


def wrap_connections() -> None:
    """Watch every connection that is made, and those that there are."""
    connection_created.connect(wrap, dispatch_uid="django_pgnudge.reader.query_watch")
    for connection in connections.all(initialized_only=True):
        wrap(connection)
