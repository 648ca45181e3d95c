"""From an address to a temporary slot: the replication connection, what it looks at before the
slot is made, which output plugin the slot has, and what making it may have to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..decoding import TableFilter, python_codec
from ..errors import ConfigError, ConnectionLostError, PgNudgeError, ProtocolError, ServerError
from ..log import get_logger
from ..wire import StreamStarted
from . import fingerprint, queries
from .connect import connect
from .connection import Connection
from .coverage import NEEDS_IDENTITY, CoverageReader, Found
from .fingerprint import Fingerprint
from .identity import identify
from .side_connection import SideConnection
from .stream_settings import StreamSettings
from .table_keys import TABLES_WITHOUT_IDENTITY

log = get_logger("django_pgnudge.feed")

MINIMUM_VERSION: Final = 140000

_LAST_PATIENCE = 1.0
"""Seconds that a feed which is being closed waits for the server to end a command, and to hang
up."""

# SQLSTATEs of CREATE_REPLICATION_SLOT that another plugin may not meet: the library is not
# there (undefined_file, undefined_object), or the server does not allow it.
_PLUGIN_REFUSED = ("58P01", "42704", "42501")


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot, and what was found before it was made. What changes later has moved."""

    name: str
    plugin: str
    map: Fingerprint
    covered: Found
    coverage_reader: CoverageReader
    """Reads again what is covered."""


class SlotMaker:
    """Makes the slot of one stream, and ends on the server what it began there."""

    def __init__(
        self,
        settings: StreamSettings,
        side: SideConnection,
        followed: TableFilter,
        unfinished: dict[str, int],
    ) -> None:
        """``side`` learns which server it is that may answer. ``unfinished`` is kept from stream
        to stream: the slots that sessions, by their process ids, may still be making, though their
        streams have ended."""
        self._settings = settings
        self._side = side
        self._followed = followed
        self._unfinished = unfinished
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The replication connection, which owns the slot."""
        assert self._connection is not None
        return self._connection

    async def make(self) -> Slot:
        """Connect and make the slot. Raises TimeoutError if the server does not answer. Waiting for
        running transactions is not limited."""
        settings = self._settings
        async with asyncio.timeout(settings.connect_timeout):
            connection = self._connection = await connect(settings.address, replication=True)
            session = connection.session
            self._require_version(session.server_version)
            # What cannot be ended goes by itself, if later.
            with contextlib.suppress(ServerError, ProtocolError):
                await self._end_unfinished(connection.rows)
            publication = settings.streamed_publication
            if publication is not None:
                await self._require_publication(publication)
            self._side.server = await identify(connection.rows)
            # Before the slot, and before keys are read: what changes from here on has moved.
            map_before = await fingerprint.take(
                connection.rows, publication, session.server_version
            )
            plugins = await _choose_plugins(settings.plugins, connection, self._followed)
            reader = CoverageReader(
                publication,
                session.server_version,
                self._followed,
                python_codec(session.parameters.get("server_encoding", "UTF8")),
            )
            covered = {plugin: await reader.read(connection.rows, plugin) for plugin in plugins}
        name = _new_name()
        self._unfinished[name] = session.backend_pid
        plugin = await create_slot(
            connection, name, plugins, self._side, patience=settings.connect_timeout
        )
        self._unfinished.clear()
        return Slot(name, plugin, map_before, covered[plugin], reader)

    async def start(self, slot: Slot, options: Mapping[str, str]) -> None:
        """Start the slot's stream with these options of its output plugin."""
        chosen = ", ".join(f'"{name}" {queries.literal(options[name])}' for name in options)
        started = await self.connection.execute(
            f'START_REPLICATION SLOT "{slot.name}" LOGICAL 0/0 ({chosen})'
        )
        if not isinstance(started, StreamStarted):
            raise ConnectionLostError("the server did not start the stream")

    async def end_making(self) -> bool:
        """Have the server end what it still works on: a session that makes a slot does not notice
        that its client has gone. False if the server does not answer.
        """
        connection = self._connection
        if connection is None:
            return True
        try:
            # Not the side connection's patience: the caller of aclose() waits here.
            async with asyncio.timeout(_LAST_PATIENCE):
                if connection.busy:
                    pid = connection.session.backend_pid
                    await self._side.rows(f"SELECT pg_catalog.pg_terminate_backend({pid})")
                elif connection.closed.done() and not _said_goodbye(connection):
                    await self._end_unfinished(self._side.rows)
        except TimeoutError:
            return False
        except PgNudgeError as error:
            log.debug("cannot end the session that makes a slot: %s", error)
            return True
        self._unfinished.clear()
        return True

    async def close_connection(self, *, is_answered: bool) -> None:
        """Close the replication connection; ``is_answered`` is what `end_making` returned."""
        if self._connection is not None:
            await self._connection.close(patience=_LAST_PATIENCE if is_answered else 0.0)

    async def _end_unfinished(self, rows: Callable[[str], Awaitable[object]]) -> None:
        """End sessions whose link broke while they made a slot, if they are still those."""
        for slot, pid in list(self._unfinished.items()):
            await rows(queries.END_MAKING.format(pid=pid, slot=slot))
            del self._unfinished[slot]

    def _require_version(self, version: int) -> None:
        if 0 < version < MINIMUM_VERSION:
            raise ConfigError(
                f"{self._settings.address} is PostgreSQL {version // 10_000}; "
                f"{MINIMUM_VERSION // 10_000} or later is needed"
            )

    async def _require_publication(self, name: str) -> None:
        if not await self.connection.rows(queries.publication_exists(name)):
            raise ServerError(f'publication "{name}" does not exist', sqlstate="42704")


def _new_name() -> str:
    return f"pgnudge_{secrets.token_hex(8)}"


async def _choose_plugins(
    plugins: Sequence[str], connection: Connection, followed: Callable[[str, str], bool]
) -> Sequence[str]:
    """Which of these plugins to try: if there is a choice, none that leaves out changes of a
    table (schema, table) that is ``followed``."""
    if NEEDS_IDENTITY not in plugins:
        return plugins
    lacking = [
        f"{schema}.{table}"
        for schema, table in await connection.rows(TABLES_WITHOUT_IDENTITY, columns=2)
        if schema is not None and table is not None and followed(schema, table)
    ]
    if not lacking:
        return plugins
    some = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
    others = [plugin for plugin in plugins if plugin != NEEDS_IDENTITY]
    log.warning(
        "%s sends no UPDATE and no DELETE of tables without a replica identity (%s)%s: give "
        "them a primary key, or use another output plugin",
        NEEDS_IDENTITY,
        some,
        f", so it must be {' or '.join(others)}" if others else "",
    )
    return others or plugins


async def create_slot(
    connection: Connection,
    name: str,
    plugins: Sequence[str],
    side: SideConnection,
    *,
    patience: float,
) -> str:
    """Make a temporary slot with the first plugin the server accepts, and return that plugin.

    Every ``patience`` seconds this looks whether the server still works on it, and logs what the
    server waits for.
    """
    *first, last = plugins
    for plugin in first:
        try:
            await _create(connection, name, plugin, side, patience)
        except ServerError as error:
            if error.sqlstate not in _PLUGIN_REFUSED:
                raise
            log.info("output plugin %s is unavailable (%s)", plugin, error.message)
        else:
            return plugin
    await _create(connection, name, last, side, patience)
    return last


async def _create(
    connection: Connection, name: str, plugin: str, side: SideConnection, patience: float
) -> None:
    # Making a slot waits for running transactions to end. A timeout would end it every time on a
    # busy server. So look after the server meanwhile.
    command = asyncio.ensure_future(
        connection.execute(
            f'CREATE_REPLICATION_SLOT "{name}" TEMPORARY LOGICAL {plugin} NOEXPORT_SNAPSHOT'
        )
    )
    command.add_done_callback(_heed)
    try:
        while not (await asyncio.wait([command], timeout=patience))[0]:
            (alive, blockers, is_standby), *_ = await side.rows(
                queries.BLOCKERS.format(pid=connection.session.backend_pid), columns=3, at_least=1
            )
            if alive != "true":
                raise ConnectionLostError("the server ended the session making the slot")
            if is_standby == "true":
                log.warning(
                    "waiting for the primary to log which transactions run, without which the "
                    "stream of a standby cannot start: an idle primary does not, so call "
                    "pg_log_standby_snapshot() there"
                )
                continue
            log.warning(
                "waiting for running transactions to end before the stream can start "
                "(sessions: %s)",
                blockers,
            )
        command.result()
    finally:
        if not command.done():
            command.cancel()
        await asyncio.wait([command])


def _said_goodbye(connection: Connection) -> bool:
    """Whether the session ended itself, with a FATAL error."""
    return isinstance(connection.closed.result(), ServerError)


def _heed(command: asyncio.Future[Any]) -> None:
    """Take its error, also where another is raised. Else the event loop logs it."""
    if not command.cancelled():
        command.exception()
