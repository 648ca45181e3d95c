"""One look at the server over a connection of its own: is it the stream's, what is covered, and
has the map moved?
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConnectionLostError
from . import fingerprint
from .address import Address
from .connecting import connect
from .fingerprint import Fingerprint, Moved
from .identity import OtherServerError, require_same

if TYPE_CHECKING:
    from .stream import Stream

__all__ = ["Survey", "look"]

_LAST_PATIENCE = 0.2
"""Seconds for the server to end the session."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a new connection to the stream's server said.

    ``covered`` are the payloads of the tables whose every change the stream carries, read before
    ``moved``: what the map was while they were read, or that it moved then, is in ``moved``.
    """

    stream: Stream
    covered: frozenset[str]
    moved: Moved
    map: Fingerprint


async def look(stream: Stream, address: Address, patience: float) -> Survey:
    """Connect anew and ask, within ``patience`` seconds.

    Raises OtherServerError and ends the stream if it is another server that answers, and what
    `connect` raises if none does.
    """
    try:
        async with asyncio.timeout(patience):
            connection = await connect(address, replication=False)
            try:
                await require_same(connection.rows, stream.identity, address)
                covered = await stream.covered(connection.rows)
                found, moved = await fingerprint.moved_since(
                    stream.map, connection.rows, stream.publication, stream.server_version
                )
            finally:
                await connection.close(patience=_LAST_PATIENCE)
    except TimeoutError:
        raise ConnectionLostError(f"{address} did not answer within {patience} s") from None
    except OtherServerError as error:
        stream.abort(error)
        raise
    return Survey(stream, covered, moved, found)
