"""Making the temporary slot: which plugin, and what it may have to wait for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConnectionLostError, ServerError
from ..log import get_logger
from . import queries
from .connection import Connection
from .side_connection import SideConnection
from .table_keys import TABLES_WITHOUT_IDENTITY

log = get_logger("django_pgnudge.feed")

NEEDS_IDENTITY = "wal2json"
"""The output plugin that leaves out changes it cannot name the row of."""

# SQLSTATEs of CREATE_REPLICATION_SLOT that another plugin may not meet: the library is not
# there (undefined_file, undefined_object), or the server does not allow it.
_PLUGIN_REFUSED = ("58P01", "42704", "42501")


def new_name() -> str:
    return f"pgnudge_{secrets.token_hex(8)}"


async def choose_plugins(
    plugins: Sequence[str], connection: Connection, followed: Callable[[str, str], bool]
) -> Sequence[str]:
    """Which of these plugins to try: where there is a choice, none that leaves out changes of a
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

    Every ``patience`` seconds that it takes, the server is looked after and the log is told.
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
    # Making a slot waits for running transactions to end, which no timeout may cut short: on a
    # busy server it would be cut short every time. So look after the server meanwhile.
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


def _heed(command: asyncio.Future[Any]) -> None:
    """Take its error, also where another is raised: else the event loop's log would have it."""
    if not command.cancelled():
        command.exception()
