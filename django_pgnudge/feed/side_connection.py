"""A plain connection beside the stream, for queries of snapshots and of catalogs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ..errors import (
    ConnectionLostError,
    OtherServerError,
    PgNudgeError,
    ProtocolError,
    ServerError,
)
from ..log import get_logger
from ..wire import LSN
from . import queries
from .address import Address
from .connect import connect
from .connection import Connection, Rows, result_into
from .identity import Identity, require_same
from .visibility import Snapshot

log = get_logger("django_pgnudge.feed")

# "invalid_sql_statement_name": there is a pooler that changes sessions between two queries.
_NO_SUCH_STATEMENT = "26000"

Result = TypeVar("Result")

_WAL_PAGE = 8192
_WAL_PAGE_HEADERS = (24, 40)


@dataclass(eq=False, slots=True)
class _Query:
    sql: str
    answered: Callable[[Rows | Exception], None]
    columns: int
    at_least: int


class SideConnection:
    """Queries to the server, one at a time and in turn; the connection is opened when needed.

    `ask`, `ask_visibility` and `ask_outcomes` take a callback and need no task: on a connection
    that is up and idle the query is sent before they return, and the callback is called in the
    event loop's read callback. The coroutines stand on the same queue. A query without
    a result within ``patience`` seconds fails with a PgNudgeError; the next one then opens a new
    connection.
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
        self._waiting: deque[_Query] = deque()
        self._current: _Query | None = None
        self._opening: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._closed = False
        self._may_prepare = True
        self._visibility_sql = queries.VISIBILITY
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def ask(
        self,
        sql: str,
        answered: Callable[[Rows | Exception], None],
        *,
        columns: int = 1,
        at_least: int = 0,
    ) -> None:
        """Ask for the rows of one query; ``answered`` is given them, or why there are none."""
        self._queue(_Query(sql, answered, columns, at_least))

    def ask_visibility(self, answered: Callable[[queries.Visibility | Exception], None]) -> None:
        """Ask what a new snapshot sees."""
        self.ask(
            queries.VISIBILITY,
            _reading(queries.Visibility.of, answered),
            columns=2,
            at_least=1,
        )

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

    async def visibility(self) -> queries.Visibility:
        """What a new snapshot sees."""
        return queries.Visibility.of(await self.rows(queries.VISIBILITY, columns=2, at_least=1))

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
        query = _Query(sql, result_into(waiter), columns, at_least)
        self._queue(query)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._abandon(query, ConnectionLostError("the query was given up"))
            raise

    async def aclose(self) -> None:
        """Close the connection; every query from here on fails. May be called again."""
        self._closed = True
        unanswered = [*([self._current] if self._current else ()), *self._waiting]
        self._current = None
        self._waiting.clear()
        self._stop_timer()
        for query in unanswered:
            query.answered(_closed())
        for attempt in self._attempts:
            attempt.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts)
        if self._connection is not None:
            await self._connection.close(patience=0.2)

    # Inside.

    def _queue(self, query: _Query) -> None:
        if self._closed:
            query.answered(_closed())
            return
        self._waiting.append(query)
        self._ask_next()

    def _ask_next(self) -> None:
        if self._current is not None or not self._waiting:
            return
        query = self._current = self._waiting.popleft()
        self._timer = self._loop.call_later(self._patience, self._on_silence, query)
        if self._connection is not None and not self._connection.closed.done():
            self._send(self._connection, query)
        else:
            self._opening = asyncio.create_task(self._open(query), name="pgnudge-side-connection")
            self._attempts.add(self._opening)
            self._opening.add_done_callback(self._attempts.discard)

    async def _open(self, query: _Query) -> None:
        try:
            self._connection = await connect(self._address, replication=False)
            if self.server is not None:
                await require_same(self._connection.rows, self.server, self._address)
            self._visibility_sql = await self._prepare(self._connection)
        except Exception as error:
            if isinstance(error, OtherServerError):
                self._on_other_server(error)
            self._on_result(query, error)
        else:
            self._send(self._connection, query)

    async def _prepare(self, connection: Connection) -> str:
        """The SQL by which this connection asks for `queries.VISIBILITY`."""
        if self._may_prepare:
            try:
                await connection.execute(queries.PREPARE_VISIBILITY)
            except ServerError as error:
                log.debug("the query for a snapshot cannot be prepared: %s", error)
            else:
                return queries.PREPARED_VISIBILITY
        return queries.VISIBILITY

    def _send(self, connection: Connection, query: _Query) -> None:
        try:
            connection.ask(
                self._visibility_sql if query.sql is queries.VISIBILITY else query.sql,
                partial(self._on_result, query),
                columns=query.columns,
                at_least=query.at_least,
            )
        except PgNudgeError as error:
            self._on_result(query, error)

    def _on_result(self, query: _Query, result: Rows | Exception) -> None:
        if query is not self._current:
            # It was given up, and its connection with it.
            return
        self._current = None
        self._stop_timer()
        if isinstance(result, ServerError) and result.sqlstate == _NO_SUCH_STATEMENT:
            self._may_prepare = False
        if isinstance(result, Exception):
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.abort(ConnectionLostError(f"a query failed: {result}"))
        query.answered(result)
        self._ask_next()

    def _on_silence(self, query: _Query) -> None:
        self._abandon(
            query,
            ConnectionLostError(f"{self._address} did not answer a query for {self._patience} s"),
        )

    def _abandon(self, query: _Query, error: ConnectionLostError) -> None:
        """Do not wait for the result any longer: it may still be on its way."""
        if query in self._waiting:
            self._waiting.remove(query)
        elif query is self._current:
            if self._opening is not None:
                self._opening.cancel()
            self._on_result(query, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reading(
    read: Callable[[Rows], Result], answered: Callable[[Result | Exception], None]
) -> Callable[[Rows | Exception], None]:
    """Call ``answered`` with what ``read`` makes of the rows, or with what went wrong."""

    def on_rows(rows: Rows | Exception) -> None:
        result: Result | Exception
        try:
            result = rows if isinstance(rows, Exception) else read(rows)
        except ProtocolError as error:
            result = error
        answered(result)

    return on_rows


def _closed() -> ConnectionLostError:
    return ConnectionLostError("the stream that asks has ended")


def _end(text: str | None) -> LSN:
    """An insert position that a stream comes to.

    On an idle server it may already stand behind the header of a page that has no record yet.
    """
    end = LSN.parse(text or "")
    return LSN(end - end % _WAL_PAGE) if end % _WAL_PAGE in _WAL_PAGE_HEADERS else end
