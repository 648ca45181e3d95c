"""Whether the first Resync of a stream came too early: see `visibility.Handshake`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ..backoff import Backoff
from ..errors import PgNudgeError
from ..log import get_logger
from .coalescer import Coalescer
from .connection import Connection
from .progress import Progress
from .side_connection import SideConnection
from .visibility import Handshake

log = get_logger("django_pgnudge.feed")

# Until the transactions of the handshake have ended, look again after this long, doubling up to
# the second.
_RECHECK = (0.02, 1.0)


class HandshakeWatch:
    """Looks after the transactions that ran when a stream went live."""

    def __init__(
        self, running: Iterable[int], side: SideConnection, progress: Progress, coalescer: Coalescer
    ) -> None:
        """``running`` are their 32-bit xids. From here on the coalescer watches which of them the
        stream brings."""
        self._handshake = Handshake(running)
        self._side = side
        self._progress = progress
        self._coalescer = coalescer
        coalescer.watch_xids(self.running)

    @property
    def running(self) -> frozenset[int]:
        return self._handshake.running

    async def needs_resync(self, connection: Connection) -> bool:
        """Whether one of the transactions committed and is in no stream; False, too, if the
        stream's ``connection`` ends before that is known."""
        await self._conclude()
        due: bool | None = None

        def is_known() -> bool:
            nonlocal due
            due = self._handshake.due(self._progress.position, self._coalescer.has_streamed)
            return due is not None

        if not await self._progress.until(is_known, connection):
            return False
        self._coalescer.stop_watching_xids()
        return bool(due)

    async def _conclude(self) -> None:
        """Wait until all of them have ended, and learn how."""
        backoff = Backoff(*_RECHECK, least=1.0)
        while True:
            try:
                seen = await self._side.visibility()
                if self._handshake.observe(seen.snapshot):
                    self._handshake.conclude(
                        *await self._side.committed(seen.snapshot, self.running)
                    )
                    return
            except PgNudgeError as error:
                log.debug("cannot look after the handshake: %s", error)
            await asyncio.sleep(backoff.next_delay())
