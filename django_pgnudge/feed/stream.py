"""One stream: from a live slot until it ends.

A stream owns its connections and what runs beside them: the liveness watch, the releaser, the
handshake watch. It fills a coalescer and says when there is something to take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from ..decoding import DECODERS, Decoder, DecoderOptions, PrimaryKeys, TableFilter, python_codec
from ..errors import ConnectionLostError, DecodeError, PgNudgeError
from ..events import ResyncReason
from ..log import get_logger
from ..wire import CopyDone, Keepalive, Notice, QueryFailed, QueryResult, XLogData
from .coalescer import Coalescer
from .connection import Connection, Rows
from .coverage import Carried
from .fingerprint import Fingerprint
from .handshake_watch import HandshakeWatch
from .identity import Identity
from .notices import Notices
from .primary_keys import PRIMARY_KEYS, KeyKeeper, primary_keys
from .progress import Progress
from .release import CommitReleaser, Releaser, Reports, VisibilityReleaser
from .side_connection import SideConnection
from .slot import Slot, SlotMaker
from .stream_settings import StreamSettings

log = get_logger("django_pgnudge.feed")

_BLIND = 30.0
"""Seconds for which changes are held without a snapshot, where no liveness_timeout says so."""


class Stream:
    """One life of the connection; ``wake`` is called when the coalescer has something."""

    def __init__(
        self,
        settings: StreamSettings,
        coalescer: Coalescer,
        *,
        wake: Callable[[], None],
        resync: Callable[[ResyncReason], None],
        unfinished: dict[str, int],
    ) -> None:
        """``unfinished`` is for `SlotMaker`."""
        self._settings = settings
        self._coalescer = coalescer
        self._wake = wake
        self._resync = resync
        self._side = self._make_side()
        # A lock on a catalog, or a slow query, must not hold up deletes.
        self._catalogs = self._make_side()
        followed = TableFilter(settings.tables)
        self._slot_maker = SlotMaker(settings, self._side, followed, unfinished)
        self._slot: Slot | None = None
        self._decoder: Decoder[Any] | None = None
        self._keys = KeyKeeper(self._catalogs.rows, self._side.log_end)
        self._releaser = self._make_releaser()
        self._progress = Progress(self._side)
        self._handshake: HandshakeWatch | None = None
        self._carried: Carried | None = None
        self._notices = Notices(followed, lambda payload: coalescer.rows(payload, 1, None))
        self._bug: Exception | None = None
        self.map = Fingerprint({})
        """The map that names and keys were last read from, or an older one."""
        self.coverage: frozenset[str] | None = None
        """What is covered by `map`, once it has been read."""

    @property
    def connection(self) -> Connection:
        return self._slot_maker.connection

    @property
    def slot(self) -> Slot:
        assert self._slot is not None
        return self._slot

    @property
    def identity(self) -> Identity:
        """The server that the stream comes from."""
        assert self._side.server is not None
        return self._side.server

    @property
    def publication(self) -> str | None:
        """The publication whose tables the stream carries; None if it carries any table."""
        return self._settings.streamed_publication

    @property
    def server_version(self) -> int:
        """As ``server_version_num``."""
        return self.connection.session.server_version

    async def open(self) -> None:
        """Connect, make the slot, start the stream; returns when every later commit nudges."""
        settings = self._settings
        try:
            slot = self._slot = await self._slot_maker.make()
            self._catalogs.server = self._side.server
            self.map, self._carried = slot.map, Carried(slot.covered)
            async with asyncio.timeout(settings.connect_timeout):
                await self._start(slot, await self._read_primary_keys())
                if settings.visibility:
                    running = await self._side.running_xids()
                    self._handshake = HandshakeWatch(
                        running, self._side, self._progress, self._coalescer
                    )
        except TimeoutError:
            raise ConnectionLostError(
                f"{settings.address} did not complete the handshake within "
                f"{settings.connect_timeout} s"
            ) from None

    async def run(self) -> PgNudgeError:
        """Stream until the connection ends, and return why; a bug is raised."""
        helpers = [asyncio.create_task(self._watch_liveness(), name="pgnudge-liveness")]
        if self._handshake is not None and self._handshake.running:
            watching = self._watch_handshake(self._handshake)
            helpers.append(asyncio.create_task(watching, name="pgnudge-handshake"))
        else:
            self._coalescer.stop_watching_xids()
        self._releaser.start()
        try:
            pending: set[asyncio.Future[object]] = {self.connection.closed, *helpers}  # type: ignore[arg-type]
            while not self.connection.closed.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for future in done - {self.connection.closed}:
                    future.result()
            if self._bug is not None:
                raise self._bug
            return self.connection.closed.result()
        finally:
            self._releaser.stop()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def aclose(self) -> None:
        """Close all connections. May be called again if it was cancelled."""
        self._releaser.stop()
        is_answered = await self._slot_maker.end_making()
        await self._side.aclose()
        await self._catalogs.aclose()
        await self._slot_maker.close_connection(is_answered=is_answered)

    def _make_side(self) -> SideConnection:
        settings = self._settings
        return SideConnection(
            settings.address, patience=settings.connect_timeout, on_other_server=self.abort
        )

    def _make_releaser(self) -> Releaser:
        settings = self._settings
        reports = Reports(self._wake, self.abort, self._on_bug)
        if not settings.visibility:
            return CommitReleaser(self._coalescer, reports, settings.max_batch_wait)
        return VisibilityReleaser(
            self._coalescer,
            reports,
            settings.max_batch_wait,
            self._side,
            blind=settings.liveness_timeout or _BLIND,
        )

    async def _read_primary_keys(self) -> PrimaryKeys:
        if self._settings.keys is False:
            return {}
        return primary_keys(await self.connection.rows(PRIMARY_KEYS, columns=9))

    async def _start(self, slot: Slot, keys: PrimaryKeys) -> None:
        settings, session = self._settings, self.connection.session
        options = DecoderOptions(
            tables=settings.tables,
            publication=settings.publication,
            wants_keys=settings.wants_keys,
            max_keys=settings.max_keys,
            encoding=python_codec(session.parameters.get("server_encoding", "UTF8")),
        )
        self._coalescer.reset()
        self._coalescer.watch_xids()
        self._decoder = DECODERS[slot.plugin](self._coalescer, keys, options)
        await self._slot_maker.start(
            slot, self._decoder.start_options(options, session.server_version)
        )
        self.connection.stream_to(self._on_data)

    # The live stream.

    def _on_data(self) -> None:
        try:
            self._read()
        except PgNudgeError:
            raise
        except Exception as error:
            self._on_bug(error)

    def _read(self) -> None:
        assert self._decoder is not None
        decoder, session, progress = self._decoder, self.connection.session, self._progress
        framer = session.framer
        while True:
            framer.pos = decoder.scan(framer.buffer, framer.pos)
            event = session.next_event()
            if event is None:
                break
            match event:
                case Keepalive(lsn, reply_requested):
                    progress.advance(lsn)
                    if reply_requested:
                        self.connection.send_status(progress.position)
                case XLogData(complete=False) as oversized:
                    decoder.take_prefix(oversized.payload)
                case XLogData():
                    raise DecodeError(f"{decoder.plugin} sent an empty message")
                case Notice(notice):
                    self._notices.take(notice)
                case QueryFailed(error):
                    raise error
                case CopyDone() | QueryResult():
                    raise ConnectionLostError("the server ended the stream")
        progress.advance(decoder.lsn)
        progress.notify()
        self._releaser.attend()

    def abort(self, error: ConnectionLostError) -> None:
        """End the stream, for this reason."""
        self.connection.abort(error)

    def _on_bug(self, error: Exception) -> None:
        """A bug must reach the consumer, and not end in the event loop's log."""
        self._bug = error
        self.abort(ConnectionLostError(f"the feed failed: {error!r}"))

    async def release_visible(self) -> None:
        """Return once everything visible before the call has been released.

        What is still held then was not visible when the call began. Raises ConnectionLostError
        if the stream ends first.
        """
        target = await self._side.log_end()
        connection, coalescer, progress = self.connection, self._coalescer, self._progress
        if not await progress.until(
            lambda: progress.position >= target and not coalescer.is_watching_xids, connection
        ):
            raise connection.closed.result()
        seen = await self._side.visibility()
        if coalescer.release(seen.sees):
            self._wake()

    async def rows(self, sql: str, *, columns: int = 1, at_least: int = 0) -> Rows:
        """Query the catalogs of the stream's server, over a connection for such queries."""
        return await self._catalogs.rows(sql, columns=columns, at_least=at_least)

    @property
    def keeps_names(self) -> bool:
        """Whether the server sends a table under the name of before ALTER SCHEMA … RENAME.

        pgoutput before PostgreSQL 16, for each table that it has sent (*measured* on 14.23, 15.20).
        """
        return self.slot.plugin == "pgoutput" and self.server_version < 160000

    @property
    def coverage_waits(self) -> bool:
        """Whether tables will be covered once running transactions have ended."""
        return self._carried is not None and self._carried.waits

    async def covered(self) -> frozenset[str]:
        """The payloads of the tables whose every change the stream carries."""
        assert self._carried is not None
        found = await self.slot.coverage_reader.read(self._catalogs.rows, self.slot.plugin)
        running: frozenset[int] = frozenset()
        seen = None
        if moved := self._carried.moved(found):
            running = await self._side.running_xids()
        if moved or self._carried.waits:
            seen = await self._side.visibility()
        return self._carried.take(found, running, seen)

    async def _watch_handshake(self, handshake: HandshakeWatch) -> None:
        """Ask for a Resync if a transaction of the time of the handshake is in no stream."""
        if await handshake.needs_resync(self.connection):
            log.info("a transaction committed around the handshake: resync")
            self._resync("handshake")

    async def _watch_liveness(self) -> None:
        """Report the position, and end a connection that has fallen silent."""
        settings = self._settings
        while True:
            await asyncio.sleep(settings.status_interval)
            silent = time.monotonic() - self.connection.last_inbound
            if settings.liveness_timeout is not None and silent >= settings.liveness_timeout:
                self.connection.abort(
                    ConnectionLostError(f"the server has been silent for {silent:.1f} s")
                )
                return
            self.connection.send_status(self._progress.position, reply=True)
            await self._refresh_primary_keys()

    async def _refresh_primary_keys(self) -> None:
        """Learn the keys of tables made or changed since the stream started."""
        assert self._decoder is not None
        if self._settings.keys is False:
            return
        try:
            await self._keys.refresh(self._decoder, self._progress.position)
        except PgNudgeError as error:
            log.debug("cannot read the primary keys: %s", error)

    async def learn_keys(self, moved: Collection[str] = ()) -> None:
        """Read the primary keys anew. For tables that ``moved``, what waits counts as a change of
        any row, since its keys may be those of other columns."""
        decoder = self._decoder
        assert decoder is not None
        before = decoder.primary_keys
        decoder.set_primary_keys({name: before[name] for name in before if name not in moved})
        self._coalescer.forget_keys(moved)
        if self._settings.keys is False:
            return
        keys = primary_keys(await self._catalogs.rows(PRIMARY_KEYS, columns=9))
        # What was written before they were read may have other keys.
        await self.release_visible()
        self._keys.supersede()
        decoder.set_primary_keys(keys)
