"""A plain connection beside the stream: it tells what a new snapshot would see, or of catalogs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from django_pgnudge.errors import OtherServerError

from ..errors import ConnectionLostError, PgNudgeError, ProtocolError, ServerError
from ..log import get_logger
from ..wire import LSN
from . import queries
from .address import Address
from .connect import connect
from .connection import Connection, Rows, settling
from .identity import Identity, require_same
from .visibility import Snapshot

log = get_logger("django_pgnudge.feed")

# "invalid_sql_statement_name": there is a pooler that changes sessions between two queries.
_NO_SUCH_STATEMENT = "26000"

Answer = TypeVar("Answer")

_WAL_PAGE = 8192
_WAL_PAGE_HEADERS = (24, 40)


@dataclass(eq=False, slots=True)
class _Question:
    sql: str
    answered: Callable[[Rows | Exception], None]
    columns: int
    at_least: int


class SideConnection:
    """Questions to the server, one at a time and in turn; the connection is opened when needed.

    `ask` and `look` take a callback and need no task: on a connection that is up and idle the
    question is sent before they return, and its answer is told in the event loop's read
    callback. The coroutines stand on the same queue. Whoever gets no answer within ``patience``
    seconds gets a PgNudgeError; the next question then opens a new connection.
    """

    def __init__(
        self,
        address: Address,
        *,
        patience: float,
        on_other_server: Callable[[OtherServerError], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._on_other_server = on_other_server
        self.server: Identity | None = None
        """The only server that may answer; None before it is known."""
        self._patience = patience
        self._connection: Connection | None = None
        self._waiting: deque[_Question] = deque()
        self._current: _Question | None = None
        self._opening: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._closed = False
        self._may_prepare = True
        self._view = queries.VIEW
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def look(self, answered: Callable[[queries.SnapshotView | Exception], None]) -> None:
        """Ask what a new snapshot sees; ``answered`` is given it, or why there is no answer."""
        self.ask(queries.VIEW, _reading(queries.SnapshotView.of, answered), columns=2, at_least=1)

    def ask(
        self,
        sql: str,
        answered: Callable[[Rows | Exception], None],
        *,
        columns: int = 1,
        at_least: int = 0,
    ) -> None:
        """Ask for the rows of one query; ``answered`` is given them, or why there are none."""
        self._queue(_Question(sql, answered, columns, at_least))

    def ask_outcomes(
        self,
        snapshot: Snapshot,
        xids: Iterable[int],
        answered: Callable[[frozenset[int] | Exception], None],
    ) -> None:
        """Ask which of these ended transactions committed, by their 32-bit xids."""

        self.ask(
            queries.outcomes(snapshot, xids),
            _reading(queries.committed, answered),
            columns=2,
            at_least=1,
        )

    async def view(self) -> queries.SnapshotView:
        """What a new snapshot sees."""
        return queries.SnapshotView.of(await self.rows(queries.VIEW, columns=2, at_least=1))

    async def running_xids(self) -> frozenset[int]:
        """The 32-bit xids of the transactions of this database in progress; none on a standby."""
        return queries.running_xids(await self.rows(queries.RUNNING_XIDS))

    async def committed(
        self, snapshot: Snapshot, xids: frozenset[int]
    ) -> tuple[frozenset[int], LSN]:
        """Which of these ended transactions committed, and a position behind their ends."""
        rows = await self.rows(queries.outcomes(snapshot, xids), columns=2, at_least=1)
        return queries.committed(rows), _end(rows[-1][1])

    async def log_end(self) -> LSN:
        """A position behind the commit of everything that is visible at the call."""
        (text,), *_ = await self.rows(queries.LOG_END, at_least=1)
        return _end(text)

    async def flush(self) -> None:
        """Have the server write its log to the disk now, so that it can be streamed."""
        await self.rows(queries.FLUSH)

    async def rows(self, sql: str, *, columns: int = 1, at_least: int = 0) -> Rows:
        """The rows of one query."""
        waiter: asyncio.Future[Rows] = self._loop.create_future()
        question = _Question(sql, settling(waiter), columns, at_least)
        self._queue(question)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._abandon(question, ConnectionLostError("the query was given up"))
            raise

    async def aclose(self) -> None:
        """Close the connection; every question from here on fails. May be called again."""
        self._closed = True
        unanswered = [*([self._current] if self._current else ()), *self._waiting]
        self._current = None
        self._waiting.clear()
        self._stop_timer()
        for question in unanswered:
            question.answered(_closed())
        for attempt in self._attempts:
            attempt.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts)
        if self._connection is not None:
            await self._connection.close(patience=0.2)

    # Inside.

    def _queue(self, question: _Question) -> None:
        if self._closed:
            question.answered(_closed())
            return
        self._waiting.append(question)
        self._ask_next()

    def _ask_next(self) -> None:
        if self._current is not None or not self._waiting:
            return
        question = self._current = self._waiting.popleft()
        self._timer = self._loop.call_later(self._patience, self._on_silence, question)
        if self._connection is not None and not self._connection.closed.done():
            self._send(self._connection, question)
        else:
            self._opening = asyncio.create_task(self._open(question), name="pgnudge-checker")
            self._attempts.add(self._opening)
            self._opening.add_done_callback(self._attempts.discard)

    async def _open(self, question: _Question) -> None:
        try:
            self._connection = await connect(self._address, replication=False)
            if self.server is not None:
                await require_same(self._connection.rows, self.server, self._address)
            self._view = await self._prepare(self._connection)
        except Exception as error:
            if isinstance(error, OtherServerError):
                self._on_other_server(error)
            self._on_answer(question, error)
        else:
            self._send(self._connection, question)

    async def _prepare(self, connection: Connection) -> str:
        """How to ask for a view on this connection."""
        if self._may_prepare:
            try:
                await connection.execute(queries.PREPARE_VIEW)
            except ServerError as error:
                log.debug("the question for a snapshot cannot be prepared: %s", error)
            else:
                return queries.PREPARED_VIEW
        return queries.VIEW

    def _send(self, connection: Connection, question: _Question) -> None:
        try:
            connection.ask(
                self._view if question.sql is queries.VIEW else question.sql,
                partial(self._on_answer, question),
                columns=question.columns,
                at_least=question.at_least,
            )
        except PgNudgeError as error:
            self._on_answer(question, error)

    def _on_answer(self, question: _Question, outcome: Rows | Exception) -> None:
        if question is not self._current:
            # It was given up, and its connection with it.
            return
        self._current = None
        self._stop_timer()
        if isinstance(outcome, ServerError) and outcome.sqlstate == _NO_SUCH_STATEMENT:
            self._may_prepare = False
        if isinstance(outcome, Exception):
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.abort(ConnectionLostError(f"a query failed: {outcome}"))
        question.answered(outcome)
        self._ask_next()

    def _on_silence(self, question: _Question) -> None:
        self._abandon(
            question,
            ConnectionLostError(f"{self._address} did not answer a query for {self._patience} s"),
        )

    def _abandon(self, question: _Question, error: ConnectionLostError) -> None:
        """Do not wait for the answer any longer: it may still be on its way."""
        if question in self._waiting:
            self._waiting.remove(question)
        elif question is self._current:
            if self._opening is not None:
                self._opening.cancel()
            self._on_answer(question, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reading(
    read: Callable[[Rows], Answer], answered: Callable[[Answer | Exception], None]
) -> Callable[[Rows | Exception], None]:
    """Pass on what the rows say, and that they say nothing."""

    def answer(rows: Rows | Exception) -> None:
        found: Answer | Exception
        try:
            found = rows if isinstance(rows, Exception) else read(rows)
        except ProtocolError as error:
            found = error
        answered(found)

    return answer


def _closed() -> ConnectionLostError:
    return ConnectionLostError("the stream that asks has ended")


def _end(text: str | None) -> LSN:
    """An insert position that a stream gets to.

    On a server at rest it may already stand behind the header of a page that has no record yet.
    """
    end = LSN.parse(text or "")
    return LSN(end - end % _WAL_PAGE) if end % _WAL_PAGE in _WAL_PAGE_HEADERS else end
