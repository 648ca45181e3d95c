"""The second connection: a plain one, that tells what a new snapshot would see."""

from __future__ import annotations

import asyncio

from ..errors import ConnectionLostError, PgNudgeError
from ..wire import LSN
from . import catalog
from .transport import Address, Connection, connect
from .visibility import Snapshot

__all__ = ["Checker"]

_WAL_PAGE = 8192
_WAL_PAGE_HEADERS = (24, 40)


class Checker:
    """Questions to the server, one at a time; the connection is opened when it is needed.

    Every method raises a PgNudgeError when it gets no answer within ``patience`` seconds; the
    next call then opens a new connection.
    """

    def __init__(self, address: Address, *, patience: float) -> None:
        self._address = address
        self._patience = patience
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def view(self) -> catalog.View:
        """What a new snapshot sees."""
        return catalog.View.of(await self.rows(catalog.VIEW, columns=2, at_least=1))

    async def running_xids(self) -> frozenset[int]:
        """The 32-bit xids of the transactions of this database in progress; none on a standby."""
        return catalog.running_xids(await self.rows(catalog.RUNNING_XIDS))

    async def committed(
        self, snapshot: Snapshot, xids: frozenset[int]
    ) -> tuple[frozenset[int], LSN]:
        """Which of these ended transactions committed, and a position behind their ends."""
        *rows, last = await self.rows(catalog.outcomes(snapshot, xids), columns=2, at_least=1)
        return frozenset(catalog.number(xid) & 0xFFFFFFFF for xid, _ in rows), _end(last[1])

    async def log_end(self) -> LSN:
        """A position behind the commit of everything that is visible at the call."""
        (text,), *_ = await self.rows(catalog.LOG_END, at_least=1)
        return _end(text)

    async def rows(
        self, sql: str, *, columns: int = 1, at_least: int = 0
    ) -> tuple[tuple[str | None, ...], ...]:
        """The rows of one query."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._patience):
                    if self._connection is None or self._connection.closed.done():
                        self._connection = await connect(self._address, replication=False)
                    return await self._connection.rows(sql, columns=columns, at_least=at_least)
            except TimeoutError:
                error = ConnectionLostError(
                    f"{self._address} did not answer a query for {self._patience} s"
                )
                self._drop(error)
                raise error from None
            except PgNudgeError as error:
                self._drop(error)
                raise
            except BaseException:
                # A cancelled query leaves its answer on the way.
                self._drop(ConnectionLostError("the query was given up"))
                raise

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(patience=0.2)

    def _drop(self, error: PgNudgeError) -> None:
        if self._connection is not None:
            self._connection.abort(error)
            self._connection = None


def _end(text: str | None) -> LSN:
    """An insert position that a stream gets to.

    On a server at rest it may already stand behind the header of a page that has no record yet.
    """
    end = LSN.parse(text or "")
    return LSN(end - end % _WAL_PAGE) if end % _WAL_PAGE in _WAL_PAGE_HEADERS else end
