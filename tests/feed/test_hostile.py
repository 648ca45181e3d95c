"""A whole feed against a server that misbehaves at one point.

Every script ends in a documented error in `last_error` and in another attempt; nothing is raised
from `async for`, and no exception reaches the event loop (fix_loop.py looks after that).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge import errors
from django_pgnudge.feed import WalFeed
from tests.feed.following import following
from tests.hostile import HostileServer, Peer
from tests.wire import backend

if TYPE_CHECKING:
    from tests.hostile import Script

PROTOCOL, LOST, SERVER, AUTH, DECODE = (
    errors.ProtocolError,
    errors.ConnectionLostError,
    errors.ServerError,
    errors.AuthenticationError,
    errors.DecodeError,
)


def says(*data: bytes) -> Script:
    """Sends this instead of a login, and hangs up."""

    async def script(peer: Peer) -> None:
        await peer.startup()
        await peer.send(*data)

    return script


def then_waits(*data: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.startup()
        await peer.send(*data)
        await peer.forever()

    return script


def early(data: bytes) -> Script:
    """Speaks before it is spoken to."""

    async def script(peer: Peer) -> None:
        await peer.send(data)
        await peer.forever()

    return script


def answers(command: str, *data: bytes, hangs_up: bool = False) -> Script:
    """Behaves up to a command that begins so, and answers that with this."""

    async def script(peer: Peer) -> None:
        await peer.serve(command)
        await peer.send(*data)
        if not hangs_up:
            await peer.forever()

    return script


def streams(*data: bytes, hangs_up: bool = False) -> Script:
    async def script(peer: Peer) -> None:
        await peer.stream(*data)
        if not hangs_up:
            await peer.forever()

    return script


def says_to(words: str, *data: bytes) -> Script:
    """Behaves, on both connections, but for commands that contain these words."""

    async def script(peer: Peer) -> None:
        await peer.login()
        while True:
            sql = await peer.query()
            if words in sql:
                await peer.send(*data)
            elif sql.startswith("START_REPLICATION"):
                await peer.send(backend.copy_both())
            else:
                await peer.send(peer.answer(sql))

    return script


async def flood(peer: Peer, data: bytes) -> None:
    while True:
        await peer.send(data * 100)


def floods(data: bytes, after: bytes = b"") -> Script:
    async def script(peer: Peer) -> None:
        await peer.startup()
        await peer.send(after)
        await flood(peer, data)

    return script


LOGIN = backend.login()
OK = backend.authentication(0)
NO_TABLE = b"table public"

AT_LOGIN: dict[str, tuple[Script, type[Exception]]] = {
    "hangs up": (says(), LOST),
    "hangs up inside a message": (says(OK[:3]), LOST),
    "hangs up after authentication": (says(OK), LOST),
    "never answers": (then_waits(), LOST),
    "answers half": (then_waits(OK[:5]), LOST),
    "stops before it is ready": (then_waits(OK), LOST),
    "is an HTTP server": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), PROTOCOL),
    "is an SSH server": (early(b"SSH-2.0-OpenSSH\r\n"), PROTOCOL),
    # What comes too early and what comes just in time cannot always be told apart.
    "speaks first, one byte": (early(b"S"), errors.PgNudgeError),
    "speaks first, a login": (early(LOGIN), errors.PgNudgeError),
    "announces 4 GB": (then_waits(b"R\xff\xff\xff\xff"), PROTOCOL),
    "announces nothing": (then_waits(b"R\0\0\0\0"), PROTOCOL),
    "is too busy": (says(backend.error("too many clients", "53300", "FATAL")), SERVER),
    "sends an error it cannot end": (then_waits(backend.message(b"E", b"Mno end")), PROTOCOL),
    "asks for a password": (then_waits(backend.authentication(3)), AUTH),
    "asks for Kerberos": (then_waits(backend.authentication(2)), AUTH),
    "asks for SCRAM and gives in": (then_waits(backend.sasl("SCRAM-SHA-256"), OK), AUTH),
    "asks for an unknown mechanism": (then_waits(backend.sasl("X")), AUTH),
    "asks for a million rounds": (
        then_waits(backend.sasl("SCRAM-SHA-256"), backend.authentication(11, b"r=,s=,i=99999999")),
        AUTH,
    ),
    "streams at once": (then_waits(backend.copy_both()), PROTOCOL),
    "is ready before authentication": (then_waits(backend.ready()), PROTOCOL),
    "is ready twice": (says(LOGIN, backend.ready()), PROTOCOL),
    "ends before the first command": (says(LOGIN), LOST),
    "shuts down before the first command": (
        says(LOGIN, backend.error("shutting down", "57P01", "FATAL")),
        SERVER,
    ),
    "floods with notices": (floods(backend.notice()), LOST),
    "floods with parameters": (
        floods(b"".join(backend.parameter(f"p{n}", "x") for n in range(300)), OK),
        PROTOCOL,
    ),
    "floods with protocol versions": (floods(backend.message(b"v", b"\0" * 8)), LOST),
}

COVERAGE = "WITH RECURSIVE relation"
"""How the query for what is covered begins."""

IN_COMMANDS: dict[str, tuple[Script, type[Exception]]] = {
    "fails the catalog query": (
        answers(COVERAGE, backend.error("no", "42501"), backend.ready()),
        SERVER,
    ),
    "hangs up in the catalog query": (
        answers(COVERAGE, backend.row_description("a"), hangs_up=True),
        LOST,
    ),
    "never answers the catalog query": (answers(COVERAGE), LOST),
    "sends rows that are none": (
        answers(COVERAGE, backend.message(b"D", b"\0\1")),
        PROTOCOL,
    ),
    "answers a query with a stream": (
        answers(COVERAGE, backend.copy_both()),
        PROTOCOL,
    ),
    "answers a query with a copy": (
        answers(COVERAGE, backend.message(b"H", b"\0\0\0")),
        PROTOCOL,
    ),
    "floods with rows": (
        answers(
            "WITH RECURSIVE relation", backend.row_description("a"), backend.data_row(None) * 1000
        ),
        LOST,
    ),
    "refuses the slot": (
        answers("CREATE_REPL", backend.error("wal_level", "55000"), backend.ready()),
        SERVER,
    ),
    "dies making the slot": (
        answers("CREATE_REPL", backend.error("bye", "57P01", "FATAL")),
        SERVER,
    ),
    "refuses the stream": (
        answers("START_REPL", backend.error("gone", "42704"), backend.ready()),
        SERVER,
    ),
    "does not start the stream": (answers("START_REPL", backend.result(["x"])), LOST),
    "never starts the stream": (answers("START_REPL"), LOST),
}

IN_STREAM: dict[str, tuple[Script, type[Exception]]] = {
    "hangs up": (streams(hangs_up=True), LOST),
    "hangs up inside a message": (streams(backend.keepalive()[:9], hangs_up=True), LOST),
    "shuts down": (streams(backend.error("bye", "57P01", "FATAL")), SERVER),
    "sends rubbish": (streams(b"\0" * 100), PROTOCOL),
    "sends an unknown stream message": (streams(backend.copy_data(b"?" * 40)), PROTOCOL),
    "sends a short keepalive": (streams(backend.copy_data(b"k\0")), PROTOCOL),
    "sends an empty change": (streams(backend.xlog(b"")), DECODE),
    "sends a change of no table": (streams(backend.xlog(NO_TABLE)), DECODE),
    "sends a change outside a transaction": (
        streams(backend.xlog(b"table public.t: INSERT: id[integer]:1")),
        DECODE,
    ),
    "begins twice": (streams(backend.xlog(b"BEGIN 1"), backend.xlog(b"BEGIN 2")), DECODE),
    "commits nothing": (
        streams(backend.xlog(b"COMMIT 1 (at 2000-01-01 00:00:00+00)")),
        DECODE,
    ),
    "sends a query's answer": (streams(backend.result(["x"])), PROTOCOL),
    "ends the stream": (
        streams(backend.copy_done(), backend.complete(), backend.ready()),
        LOST,
    ),
    "ends the stream and waits": (streams(backend.copy_done()), LOST),
    "fails in the stream": (
        streams(backend.error("publication gone", "42704"), backend.ready()),
        SERVER,
    ),
    "announces more than a gigabyte": (streams(b"d\xff\xff\xff\xff"), PROTOCOL),
}


def scripts(*groups: dict[str, tuple[Script, type[Exception]]]) -> Any:
    return [
        pytest.param(script, kind, id=name)
        for group in groups
        for name, (script, kind) in group.items()
    ]


def feed_for(server: HostileServer, **options: Any) -> WalFeed:
    given: dict[str, Any] = {
        "connect_timeout": 10.0,
        "backoff": (0.001, 0.002),
        "plugin": "test_decoding",
    }
    given |= {"host": "127.0.0.1", "port": server.port, "user": "u", "database": "d"}
    return WalFeed(**(given | options))


async def errors_of(script: Script, **options: Any) -> list[Exception]:
    """The errors of a feed's attempts, up to the second of them."""
    met: list[Exception] = []
    async with HostileServer(script) as server:
        feed = feed_for(server, password="secret", **options)
        async with following(feed, live=False) as follower:
            async with asyncio.timeout(10):
                while len(met) < 2:
                    error = feed.last_error
                    if error is not None and not any(error is known for known in met):
                        met.append(error)
                    if follower.items:
                        follower.items.clear()
                    await asyncio.sleep(0)
        assert "secret" not in "".join(map(str, met))
    return met


@pytest.mark.parametrize(("script", "kind"), scripts(AT_LOGIN, IN_COMMANDS, IN_STREAM))
async def test_a_server_that_misbehaves_is_left_and_tried_again(
    script: Script, kind: type[Exception]
) -> None:
    # Where silence is no right end, a machine that is slow for a moment must not make it one.
    patience = 0.2 if issubclass(LOST, kind) else 10.0
    for error in await errors_of(script, connect_timeout=patience):
        assert isinstance(error, kind), repr(error)


async def test_a_server_that_misbehaves_once_is_forgiven() -> None:
    turns = iter([streams(b"\0" * 10), says(b"x"), says()])

    async def script(peer: Peer) -> None:
        mine = next(turns, None) if not peer.replication else None
        await (mine or streams(backend.keepalive()))(peer)

    async with (
        HostileServer(script) as server,
        following(feed_for(server, visibility=False)) as follower,
    ):
        assert follower.resyncs == ["connected"]
        assert follower.feed.last_error is None
