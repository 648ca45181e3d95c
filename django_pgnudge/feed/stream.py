"""One stream: from a connection to a live slot, and until it ends.

A stream owns its connections and what runs beside them: the status and liveness clock, the
judge of visibility, the watch over the handshake. It fills a coalescer and says when there is
something to take.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding import (
    DECODERS,
    Decoder,
    DecoderOptions,
    PrimaryKeys,
    TableFilter,
    python_codec,
)
from ..errors import (
    ConfigError,
    ConnectionLostError,
    DecodeError,
    PgNudgeError,
    ProtocolError,
    ServerError,
)
from ..events import ResyncReason
from ..log import get_logger
from ..wire import CopyDone, Keepalive, Notice, QueryFailed, QueryResult, StreamStarted, XLogData
from . import fingerprint, queries
from .address import Address
from .coalescer import Coalescer
from .connect import connect
from .connection import Connection, Rows
from .coverage import Carried, Found, coverage, covered
from .fingerprint import Fingerprint
from .identity import Identity, identify
from .notices import Notices
from .primary_keys import PRIMARY_KEYS, KeyKeeper, primary_keys
from .release import CommitReleaser, Releaser, Reports, VisibilityReleaser
from .side_connection import SideConnection
from .slot import NEEDS_IDENTITY, choose_plugins, create_slot, new_name
from .visibility import Handshake

log = get_logger("django_pgnudge.feed")

MINIMUM_VERSION = 140000

# Before the log's end is asked for again, and how often it is before it is flushed, and again.
_CATCH_UP_PAUSE = 0.005
_FLUSH_AFTER, _FLUSH_EVERY = 20, 200

# How long nudges are held for want of a snapshot, where no liveness_timeout says so.
_BLIND = 30.0

# How long a feed that is being closed waits for the server to end a command, and to hang up.
_LAST_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a stream needs of its feed's arguments; times in seconds."""

    address: Address
    plugins: Sequence[str]
    publication: str | None
    tables: Sequence[str] | None
    keys: bool | Collection[str]
    max_keys: int
    visibility: bool
    status_interval: float
    liveness_timeout: float | None
    connect_timeout: float
    max_batch_wait: float

    def wants_keys(self, payload: str) -> bool:
        return self.keys if isinstance(self.keys, bool) else payload in self.keys


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
        """``unfinished`` is kept from stream to stream: the slots that sessions, by their process
        ids, may still be making, though their streams have ended."""
        self._settings = settings
        self._coalescer = coalescer
        self._wake = wake
        self._resync = resync
        self._connection: Connection | None = None
        self._decoder: Decoder[Any] | None = None
        self._side = self._make_side()
        # What a lock on a catalog holds up, or a slow answer, must not hold up deletes.
        self._catalogs = self._make_side()
        self._keys = KeyKeeper(self._catalogs.rows, self._side.log_end)
        self._releaser = self._make_releaser()
        self._moved = asyncio.Event()
        self._bug: Exception | None = None
        self._unfinished = unfinished
        self._handshake: Handshake | None = None
        self._carried: Carried | None = None
        self._followed = TableFilter(settings.tables)
        self._notices = Notices(self._followed, lambda payload: coalescer.rows(payload, 1, None))
        self.slot_name: str | None = None
        self.plugin: str | None = None
        self.map = Fingerprint({})
        """The map that names and keys were last read from, or an older one."""
        self.coverage: frozenset[str] | None = None
        """What is covered by `map`, once it has been read."""
        self.position = 0
        """The LSN up to which the server has sent everything there is."""

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    @property
    def identity(self) -> Identity:
        """The server that the stream comes from."""
        assert self._side.server is not None
        return self._side.server

    @property
    def publication(self) -> str | None:
        """The publication whose tables the stream carries; None if it carries any table."""
        settings = self._settings
        return settings.publication if "pgoutput" in settings.plugins else None

    @property
    def server_version(self) -> int:
        """As ``server_version_num``."""
        return self.connection.session.server_version

    async def open(self) -> None:
        """Connect, make the slot, start the stream; returns when every later commit nudges."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout):
                self._connection = await connect(settings.address, replication=True)
                self._check_version()
                # What cannot be ended goes by itself, if later.
                with contextlib.suppress(ServerError, ProtocolError):
                    await self._end_unfinished(self._connection.rows)
                if self.publication is not None:
                    await self._check_publication(self.publication)
                identity = await identify(self._connection.rows)
                self._side.server = self._catalogs.server = identity
                # Before the slot, and before keys are read: what changes from here on has moved.
                self.map = await fingerprint.take(
                    self._connection.rows, self.publication, self.server_version
                )
                plugins = await choose_plugins(settings.plugins, self._connection, self._followed)
                found = {
                    plugin: await self._find_covered(self._connection.rows, plugin)
                    for plugin in plugins
                }
            name = new_name()
            self._unfinished[name] = self._connection.session.backend_pid
            self.plugin = await create_slot(
                self._connection,
                name,
                plugins,
                self._side,
                patience=settings.connect_timeout,
            )
            self._unfinished.clear()
            self.slot_name = name
            self._carried = Carried(found[self.plugin])
            async with asyncio.timeout(settings.connect_timeout):
                await self._start(self.plugin, await self._read_primary_keys())
                if settings.visibility:
                    running = await self._side.running_xids()
                    self._coalescer.watch(running)
                    self._handshake = Handshake(running)
        except TimeoutError:
            raise ConnectionLostError(
                f"{settings.address} did not complete the handshake within "
                f"{settings.connect_timeout} s"
            ) from None

    async def run(self) -> PgNudgeError:
        """Stream until the connection ends, and return why; a bug of ours is raised."""
        helpers = [asyncio.create_task(self._watch_liveness(), name="pgnudge-liveness")]
        if self._handshake is not None and self._handshake.running:
            helpers.append(asyncio.create_task(self._watch_handshake(), name="pgnudge-handshake"))
        else:
            self._coalescer.unwatch()
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
        """Leave nothing behind. May be called again if it was cancelled."""
        self._releaser.stop()
        answered = await self._end_command()
        await self._side.aclose()
        await self._catalogs.aclose()
        if self._connection is not None:
            await self._connection.close(patience=_LAST_PATIENCE if answered else 0.0)

    async def _end_command(self) -> bool:
        """Have the server end what it still works on: one that makes a slot does not notice that
        its client has gone. False if it does not answer.
        """
        connection = self._connection
        if connection is None:
            return True
        try:
            # Not the checker's patience: who closes a feed waits here.
            async with asyncio.timeout(_LAST_PATIENCE):
                if connection.busy:
                    pid = connection.session.backend_pid
                    await self._side.rows(f"SELECT pg_catalog.pg_terminate_backend({pid})")
                elif connection.closed.done() and not self._said_goodbye(connection):
                    await self._end_unfinished(self._side.rows)
        except TimeoutError:
            return False
        except PgNudgeError as error:
            log.debug("cannot end the session that makes a slot: %s", error)
            return True
        self._unfinished.clear()
        return True

    @staticmethod
    def _said_goodbye(connection: Connection) -> bool:
        """Whether the session ended itself, with a FATAL error."""
        return isinstance(connection.closed.result(), ServerError)

    async def _end_unfinished(self, rows: Callable[[str], Awaitable[object]]) -> None:
        """End sessions whose link broke while they made a slot, if they are still those."""
        for slot, pid in list(self._unfinished.items()):
            await rows(queries.END_MAKING.format(pid=pid, slot=slot))
            del self._unfinished[slot]

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

    # The steps of `open`.

    def _check_version(self) -> None:
        version = self.connection.session.server_version
        if 0 < version < MINIMUM_VERSION:
            raise ConfigError(
                f"{self._settings.address} is PostgreSQL {version // 10_000}; "
                f"{MINIMUM_VERSION // 10_000} or later is needed"
            )

    async def _check_publication(self, name: str) -> None:
        if not await self.connection.rows(queries.publication_exists(name)):
            raise ServerError(
                f'publication "{name}" does not exist',
                sqlstate="42704",
            )

    async def _read_primary_keys(self) -> PrimaryKeys:
        if self._settings.keys is False:
            return {}
        return primary_keys(await self.connection.rows(PRIMARY_KEYS, columns=9))

    async def _start(self, plugin: str, keys: PrimaryKeys) -> None:
        settings, session = self._settings, self.connection.session
        options = DecoderOptions(
            tables=settings.tables,
            publication=settings.publication,
            wants_keys=settings.wants_keys,
            max_keys=settings.max_keys,
            encoding=python_codec(session.parameters.get("server_encoding", "UTF8")),
        )
        self._coalescer.reset()
        self._coalescer.watch()
        self._decoder = DECODERS[plugin](self._coalescer, keys, options)
        chosen = ", ".join(
            f'"{name}" {queries.literal(value)}'
            for name, value in self._decoder.start_options(options, session.server_version).items()
        )
        started = await self.connection.execute(
            f'START_REPLICATION SLOT "{self.slot_name}" LOGICAL 0/0 ({chosen})'
        )
        if not isinstance(started, StreamStarted):
            raise ConnectionLostError("the server did not start the stream")
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
        decoder, session = self._decoder, self.connection.session
        framer = session.framer
        while True:
            framer.pos = decoder.scan(framer.buffer, framer.pos)
            event = session.next_event()
            if event is None:
                break
            match event:
                case Keepalive(lsn, reply_requested):
                    self.position = max(self.position, lsn)
                    if reply_requested:
                        self.connection.send_status(self.position)
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
        self.position = max(self.position, decoder.lsn)
        self._moved.set()
        self._releaser.attend()

    def abort(self, error: ConnectionLostError) -> None:
        """End the stream, for this reason."""
        self.connection.abort(error)

    def _on_bug(self, error: Exception) -> None:
        """A bug of ours must reach the consumer, and not end in the event loop's log."""
        self._bug = error
        self.abort(ConnectionLostError(f"the feed failed: {error!r}"))

    async def catch_up(self) -> None:
        """Return once everything visible before the call has been released.

        What is still held then was not visible when the call began. Raises ConnectionLostError
        if the stream ends first.
        """
        target = await self._side.log_end()
        for turn in itertools.count():
            if self.position >= target and not self._coalescer.watching:
                break
            self._moved.clear()
            await self._ask_for_more(turn)
            waiter: asyncio.Future[Any] = asyncio.ensure_future(self._moved.wait())
            try:
                watched: list[asyncio.Future[Any]] = [waiter, self.connection.closed]
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
            if self.connection.closed.done():
                raise self.connection.closed.result()
            await asyncio.sleep(_CATCH_UP_PAUSE)
        view = await self._side.view()
        if self._coalescer.release(view.sees):
            self._wake()

    async def _ask_for_more(self, turn: int) -> None:
        """Have the server say how far it has sent; in some turns, have it flush what it has not."""
        if turn % _FLUSH_EVERY == _FLUSH_AFTER:
            with contextlib.suppress(PgNudgeError):
                await self._side.flush()
        self.connection.send_status(self.position, reply=True)

    async def rows(self, sql: str, *, columns: int = 1, at_least: int = 0) -> Rows:
        """Ask the stream's server about its catalogs, over the connection for such questions."""
        return await self._catalogs.rows(sql, columns=columns, at_least=at_least)

    @property
    def keeps_names(self) -> bool:
        """Whether the server sends a table under the name of before ALTER SCHEMA … RENAME.

        pgoutput before PostgreSQL 16, for each table that it has sent (*measured* on 14.23, 15.20).
        """
        return self.plugin == "pgoutput" and self.server_version < 160000

    @property
    def coverage_waits(self) -> bool:
        """Whether tables will be covered once transactions have ended that run."""
        return self._carried is not None and self._carried.waits

    async def covered(self) -> frozenset[str]:
        """The payloads of the tables whose every change the stream carries."""
        assert self.plugin is not None
        assert self._carried is not None
        found = await self._find_covered(self._catalogs.rows, self.plugin)
        running: frozenset[int] = frozenset()
        view = None
        if moved := self._carried.moved(found):
            running = await self._side.running_xids()
        if moved or self._carried.waits:
            view = await self._side.view()
        return self._carried.take(found, running, view)

    async def _find_covered(self, rows: Callable[..., Awaitable[Rows]], plugin: str) -> Found:
        sql = coverage(
            self._settings.publication if plugin == "pgoutput" else None,
            self.server_version,
            needs_identity=plugin == NEEDS_IDENTITY,
        )
        return covered(await rows(sql, columns=5), self._is_followed)

    def _is_followed(self, schema: str, table: str) -> bool:
        """Whether changes of a table come, under the name that it has."""
        if not self._followed(schema, table):
            return False
        encoding = self.connection.session.parameters.get("server_encoding", "UTF8")
        # Without a codec, names come with what is not ASCII escaped.
        return python_codec(encoding) != "ascii" or f"{schema}{table}".isascii()

    async def _watch_handshake(self) -> None:
        """Ask for a Resync if a transaction of the time of the handshake is in no stream."""
        handshake = self._handshake
        assert handshake is not None
        delay = 0.02
        while not handshake.settled:
            try:
                view = await self._side.view()
                if handshake.observe(view.snapshot):
                    handshake.conclude(
                        *await self._side.committed(view.snapshot, handshake.running)
                    )
                    break
            except PgNudgeError as error:
                log.debug("cannot look after the handshake: %s", error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)
        for turn in itertools.count():
            self._moved.clear()
            due = handshake.due(self.position, self._coalescer.streamed)
            if due is not None:
                break
            await self._ask_for_more(turn)
            await self._moved.wait()
            await asyncio.sleep(_CATCH_UP_PAUSE)
        self._coalescer.unwatch()
        if due:
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
            self.connection.send_status(self.position, reply=True)
            await self._refresh_primary_keys()

    async def _refresh_primary_keys(self) -> None:
        """Learn the keys of tables made or changed since the stream started."""
        assert self._decoder is not None
        if self._settings.keys is False:
            return
        try:
            await self._keys.refresh(self._decoder, self.position)
        except PgNudgeError as error:
            log.debug("cannot read the primary keys: %s", error)

    async def learn_keys(self, moved: Collection[str] = ()) -> None:
        """Read the primary keys anew; what waits of tables that ``moved`` is of any row then,
        since its keys may have been those of other columns."""
        decoder = self._decoder
        assert decoder is not None
        known = decoder.primary_keys
        decoder.set_primary_keys({name: known[name] for name in known if name not in moved})
        self._coalescer.forget_keys(moved)
        if self._settings.keys is False:
            return
        keys = primary_keys(await self._catalogs.rows(PRIMARY_KEYS, columns=9))
        # What was written before they were read may have had others.
        await self.catch_up()
        self._keys.supersede()
        decoder.set_primary_keys(keys)
