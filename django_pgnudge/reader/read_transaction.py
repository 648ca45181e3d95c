"""A read-only transaction around what a computation reads, so that PostgreSQL can say what it was.

A session holds a lock on each relation that it has read until its transaction ends, also on tables
behind views, in functions and below partitioned tables. So PostgreSQL is asked for the session's
own locks before each end of a transaction in which a computation has read.

Where no transaction is open, one is opened: READ COMMITTED, so that each statement sees what is
committed when it begins, as it would without; READ ONLY, so that nothing is lost if it is rolled
back. It ends before a statement that does not only read, before Django opens a transaction, and
after a statement that failed. So a function that writes, catches errors or opens transactions
behaves as it would alone. A statement that is refused only because of READ ONLY is run again
outside.

Python's drivers open transactions behind Django's methods, which no execute wrapper sees. So
``set_autocommit``, ``commit`` and ``rollback`` of the connection are wrapped, on this connection
and for as long as a computation is observed on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from django_pgnudge.reader.observation import Observation
from django_pgnudge.reader.session import (
    IDLE,
    INERROR,
    INTRANS,
    LOCKED,
    VIEW,
    SessionView,
    status,
)
from django_pgnudge.reader.statements import (
    ENDS,
    READS,
    first_word,
    is_one_statement,
    more_than_rows,
)

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_HOOKED: Final = ("set_autocommit", "commit", "rollback")

_MAY_ASK: Final = (
    "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_lock_status()', 'EXECUTE')"
)

_TOUCHED: Final = f"{VIEW}, CURRENT_USER::pg_catalog.text, {LOCKED}"

_REFUSED: Final = "25006"
"""read_only_sql_transaction"""

_SAVE: Final = "SAVEPOINT pgnudge"
_RELEASE: Final = "RELEASE SAVEPOINT pgnudge"
_UNDO: Final = "ROLLBACK TO SAVEPOINT pgnudge"

_TIMEOUT_SINCE: Final = 170000


class _Touched(NamedTuple):
    """What PostgreSQL says of a session in a transaction; no ``view`` with temporary tables."""

    relations: frozenset[int]
    role: str
    view: SessionView | None


_transactions: WeakKeyDictionary[BaseDatabaseWrapper, ReadTransaction] = WeakKeyDictionary()
_askable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""By the driver's connection, whether its role may read locks."""


def transaction_on(connection: BaseDatabaseWrapper) -> ReadTransaction:
    """What is observed on a connection; it may be used by the connection's thread only."""
    found = _transactions.get(connection)
    if found is None:
        found = _transactions[connection] = ReadTransaction(connection)
    return found


def is_reading(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction that is open on a connection was begun here."""
    found = _transactions.get(connection)
    return found is not None and found.is_open


def pause_reading(connection: BaseDatabaseWrapper) -> None:
    """End a transaction that was begun here, for what needs a connection without one."""
    found = _transactions.get(connection)
    if found is not None:
        found.pause()


class ReadTransaction:
    """All that is observed on one connection of Django."""

    __slots__ = ("__weakref__", "_connection", "_has_cursor", "_is_open", "_raw", "observations")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._is_open = False
        """Whether a transaction is open that was begun here."""
        self._has_cursor = False
        """Whether a cursor was declared in it. Alone, it would outlive a statement that fails."""
        self._raw: Any = None
        self.observations: list[Observation] = []

    def enter(self, observation: Observation) -> None:
        """Observe this connection from here on."""
        if not self.observations:
            self._hook()
        self.observations.append(observation)
        raw = self._connection.connection
        if raw is None:
            return
        if status(raw) == INTRANS:
            if observation.explains and (found := self._ask()) is not None:
                observation.before |= found.relations - observation.relations
        else:
            self._begin()

    def leave(self, observation: Observation) -> None:
        """The end of the observation, which then has all relations."""
        is_last = self.observations == [observation]
        if self._connection.connection is not None:
            was_open = self._is_open
            found = self._look(and_commit=is_last)
            if was_open and found is not None:
                observation.view = found.view
        if observation in self.observations:
            self.observations.remove(observation)
        if not self.observations:
            self._end()
            self._unhook()

    @contextmanager
    def statement(self, alone: list[Observation]) -> Iterator[None]:
        """Around one statement, for observations that have not entered: those of async code."""
        for each in alone:
            self.enter(each)
        try:
            yield
        finally:
            for each in alone:
                self.leave(each)

    def before(self, sql: Any, *, many: bool, alters: bool) -> None:
        """A statement is about to run."""
        text = sql if isinstance(sql, str) else self._text_of(sql)
        word = first_word(text)
        reads = word in READS and not many and not alters and is_one_statement(text)
        if self._is_open and self._is_in_error():
            self._doubt("a statement failed")
            self._end()
        if self._is_open and not self._is_alive():
            self._is_open = False
            self._doubt("its transaction was ended by something unseen")
        why, calls = more_than_rows(text) if reads else ("", frozenset())
        if why:
            why = f"it read {why}, and not only rows"
        elif calls:
            why = self._reason_of(calls)
        if reads and not why:
            for each in self.observations:
                each.calls |= calls
            self._begin()
            if self._is_open and self._has_cursor:
                self._run(_SAVE)
            return
        # It may do what takes effect at once only where no transaction is open.
        self._look()
        self._end()
        if why:
            self._doubt(why)
        elif word not in ENDS:
            self._doubt(
                f"it ran {word.upper() or 'a statement without a first word'}"
                + ("" if is_one_statement(text) else " and more")
            )

    def after(self, sql: Any, error: BaseException | None, *, is_named: bool = False) -> bool:
        """A statement has run; whether it must be run again, since READ ONLY refused it.

        ``is_named``: it has declared a cursor.
        """
        if error is None:
            if self._is_open and self._has_cursor:
                self._run(_RELEASE)
            self._has_cursor = self._has_cursor or (is_named and self._is_open)
            if any(each.explains for each in self.observations):
                self._look(sql if isinstance(sql, str) else repr(sql))
            return False
        if self._is_open:
            if self._has_cursor and self._is_in_error():
                with suppress(Exception):
                    self._run(_UNDO)
            self._is_open = False
            with suppress(Exception):
                self._run("COMMIT")  # a ROLLBACK, if the transaction has failed
            refused = _sqlstate(error) == _REFUSED
            self._doubt(
                "one of its statements did not only read" if refused else "a statement failed"
            )
            return refused and self._connection.connection is self._raw
        self._doubt("a statement failed")
        return False

    def _reason_of(self, calls: frozenset[str]) -> str:
        """Why the functions that a statement calls may do more than read rows.

        Such a statement runs outside: what it writes must not be refused or undone.
        """
        try:
            return self.observations[0].reason_of_calls(calls)  # they are of one database alias
        except Exception as error:
            return f"PostgreSQL did not say what its functions do ({error})"

    @property
    def is_open(self) -> bool:
        """Whether the transaction that is open was begun here: it has read, and nothing else."""
        return self._is_open and self._is_alive()

    def pause(self) -> None:
        """End it, until the next statement."""
        if self._is_open:
            self._look()
            self._end()

    def _begin(self) -> None:
        raw = self._connection.connection
        # Without autocommit the driver begins a transaction before the next statement, of its own.
        if self._is_open or raw is None or not raw.autocommit or not _may_ask(raw, self._doubt):
            return
        state = status(raw)
        if state == INTRANS:
            return
        if state != IDLE:
            self._doubt("the state of its connection is unknown, as in a pipeline")
            return
        # Between two statements the function may do something else that takes long.
        begin = (
            "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY;"
            " SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        if raw.info.server_version >= _TIMEOUT_SINCE:
            begin += "; SET LOCAL transaction_timeout = 0"
        try:
            self._run(begin)
        except Exception as error:
            self._doubt(f"no transaction could be opened to see what it reads ({error})")
            with suppress(Exception):
                self._run("ROLLBACK")
            return
        self._is_open, self._has_cursor, self._raw = True, False, raw

    def _end(self) -> None:
        """Commit, if the transaction is open that was begun here."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._connection.connection is self._raw:
                if self._has_cursor and self._is_alive() and self._ask_for_cursors():
                    self._doubt("its transaction ended while it read from a server-side cursor")
                self._run("COMMIT")
        except Exception as error:
            self._doubt(f"its transaction could not be ended ({error})")

    def _look(self, statement: str | None = None, *, and_commit: bool = False) -> _Touched | None:
        """Note what the open transaction, whoever opened it, has touched.

        ``and_commit``: this is the end, if it was begun here.
        """
        raw, found = self._connection.connection, None
        state = IDLE if raw is None else status(raw)
        if state == INTRANS:
            if (found := self._ask(and_commit=and_commit and self._is_open)) is not None:
                for each in self.observations:
                    each.take(found.relations, found.role, statement)
        elif state == INERROR:
            self._doubt("a statement failed")
        elif self._is_open:
            self._is_open = False
            self._doubt("its transaction was ended by something unseen")
        return found

    def _ask(self, *, and_commit: bool = False) -> _Touched | None:
        """The relations that the session holds locks on; None if PostgreSQL does not say."""
        raw = self._connection.connection
        if not _may_ask(raw, self._doubt):
            return None
        # psycopg 3 gives the first result of two statements, psycopg 2 the last.
        at_once = and_commit and hasattr(raw, "pgconn")
        try:
            with raw.cursor() as cursor:
                cursor.execute(f"{_TOUCHED}; COMMIT" if at_once else _TOUCHED, **_unprepared(raw))
                ((*view, temporary, role, found),) = cursor.fetchall()
        except Exception as error:
            self._doubt(f"PostgreSQL did not say what it read ({error})")
            return None
        if at_once:
            self._is_open = False
        written, isolation, in_recovery, path = view
        return _Touched(
            frozenset(found),
            role,
            None if temporary else SessionView(written, isolation, in_recovery, tuple(path)),
        )

    def _is_alive(self) -> bool:
        raw = self._connection.connection
        return raw is self._raw and status(raw) == INTRANS

    def _ask_for_cursors(self) -> bool:
        """Whether there are any whose rows are read at COMMIT, when it is too late to ask."""
        raw: Any = self._connection.connection
        with raw.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_catalog.pg_cursor())")
            return bool(cursor.fetchone()[0])

    def _is_in_error(self) -> bool:
        raw = self._connection.connection
        return raw is self._raw and status(raw) == INERROR

    def _run(self, sql: str) -> None:
        raw: Any = self._connection.connection
        with raw.cursor() as cursor:
            cursor.execute(sql, **_unprepared(raw))

    def _doubt(self, why: str) -> None:
        for each in self.observations:
            each.doubt(why)

    def _text_of(self, sql: Any) -> str:
        try:
            return str(sql.as_string(self._connection.connection))
        except Exception:
            return ""

    def _hook(self) -> None:
        attributes: Any = vars(self._connection)
        for name in _HOOKED:
            attributes[name] = self._hooked(getattr(self._connection, name))

    def _unhook(self) -> None:
        attributes = vars(self._connection)
        for name in _HOOKED:
            hook = attributes.pop(name, None)
            real = getattr(hook, "real", None)
            # Somebody else may have wrapped it for this connection too.
            if real is not None and getattr(real, "__self__", None) is not self._connection:
                attributes[name] = real

    def _hooked(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if self._connection.connection is not None:
                self._look()
                self._end()
            return real(*args, **kwargs)

        hook.real = real  # type: ignore[attr-defined]
        return hook


def _may_ask(raw: Any, doubt: Callable[[str], None]) -> bool:
    allowed = _askable.get(raw)
    if allowed is None:
        try:
            with raw.cursor() as cursor:
                cursor.execute(_MAY_ASK)
                ((allowed,),) = cursor.fetchall()
        except Exception as error:
            doubt(f"PostgreSQL did not say whether it tells of locks ({error})")
            return False
        _askable[raw] = allowed
    if not allowed:
        doubt("its role may not call pg_lock_status(), which tells what it reads: GRANT EXECUTE")
    return bool(allowed)


def _unprepared(raw: Any) -> dict[str, bool]:
    """Options for several statements at once: psycopg 3 prepares what it has seen a few times, with
    ``server_side_binding`` and ``prepare_threshold``, and PostgreSQL prepares no two."""
    return {"prepare": False} if hasattr(raw, "pgconn") else {}


def _sqlstate(error: BaseException) -> str | None:
    for each in (error, error.__cause__):
        found = getattr(each, "sqlstate", None) or getattr(each, "pgcode", None)
        if found:
            return str(found)
    return None
