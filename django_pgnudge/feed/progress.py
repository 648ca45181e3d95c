"""How far the server has sent its log, and how to ask it for that."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final

from ..errors import PgNudgeError
from .connection import Connection
from .side_connection import SideConnection

_PAUSE: Final = 0.005
"""Seconds before the server is asked for its position again."""

# How often it is asked before it is told to flush, and before it is told so again.
_FLUSH_AFTER, _FLUSH_EVERY = 20, 200


class Progress:
    """The progress of one stream."""

    def __init__(self, side: SideConnection) -> None:
        self._side = side
        self._advanced = asyncio.Event()
        self.position = 0
        """The LSN up to which the server has sent everything there is."""

    def advance(self, lsn: int) -> None:
        """The server has sent everything up to ``lsn``."""
        if lsn > self.position:
            self.position = lsn

    def notify(self) -> None:
        """The stream has brought something: let `until` look again."""
        self._advanced.set()

    async def until(self, reached: Callable[[], bool], connection: Connection) -> bool:
        """Wait until ``reached`` says yes; False if the stream's ``connection`` ends before.

        ``reached`` is asked whenever the stream has brought something.
        """
        for turn in itertools.count():
            if reached():
                break
            self._advanced.clear()
            await self._request(turn, connection)
            waiter: asyncio.Future[Any] = asyncio.ensure_future(self._advanced.wait())
            try:
                either: list[asyncio.Future[Any]] = [waiter, connection.closed]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
            if connection.closed.done():
                return False
            await asyncio.sleep(_PAUSE)
        return True

    async def _request(self, turn: int, connection: Connection) -> None:
        """Ask the server how far it has sent; in some turns, have it flush what it has not."""
        if turn % _FLUSH_EVERY == _FLUSH_AFTER:
            with contextlib.suppress(PgNudgeError):
                await self._side.flush()
        connection.send_status(self.position, reply=True)
