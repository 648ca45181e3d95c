"""One look at the server: whether a new connection leads to it, what is covered, and whether the
map has moved.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from ..errors import ConnectionLostError, OtherServerError
from . import fingerprint
from .address import Address
from .closing import to_the_end
from .connect import connect
from .fingerprint import Fingerprint, Moved, moved_between, schemas_moved
from .identity import require_same
from .stream import Stream

_LAST_PATIENCE = 0.2
"""Seconds for the server to end the session."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found of a stream.

    ``covered`` are the payloads of the tables whose every change it carries, read before
    ``moved``, which says what has moved of the map since it was last accepted, until ``map``.
    ``steady`` is whether the map stood still while ``covered`` was read.
    """

    stream: Stream
    covered: frozenset[str]
    moved: Moved
    map: Fingerprint
    steady: bool


async def look(stream: Stream, address: Address, patience: float) -> Survey:
    """Connect anew within ``patience`` seconds, and look.

    If another server answers, the stream ends and OtherServerError is raised. If none does, raises
    what `connect` raises.
    """
    await _meet(stream, address, patience)
    # Not over that connection: a session that has just begun takes ten times as long for this.
    about = stream.rows, stream.publication, stream.server_version
    accepted = stream.map.digest()
    before = await fingerprint.sums(*about)
    if before == accepted and stream.coverage is not None and not stream.coverage_waits:
        return Survey(stream, stream.coverage, Moved(), stream.map, steady=True)
    covered = await stream.covered()
    if before == accepted == await fingerprint.sums(*about):
        stream.coverage = covered
        return Survey(stream, covered, Moved(), stream.map, steady=True)
    found = await fingerprint.take(*about)
    if stream.keeps_names and schemas_moved(stream.map, found):
        error = ConnectionLostError(
            "a schema has changed, and the server may go on to send its tables under the old name"
        )
        stream.abort(error)
        raise error
    steady = found.digest() == before
    return Survey(stream, covered, moved_between(stream.map, found), found, steady)


async def _meet(stream: Stream, address: Address, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            connection = await connect(address, replication=False)
            try:
                await require_same(connection.rows, stream.identity, address)
            finally:
                # A daemon that stops cancels this, and nothing else closes the connection.
                await to_the_end(partial(connection.close, patience=_LAST_PATIENCE))
    except TimeoutError:
        raise ConnectionLostError(f"{address} did not answer within {patience} s") from None
    except OtherServerError as error:
        stream.abort(error)
        raise
