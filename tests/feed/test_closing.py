"""What a feed leaves when it is closed, cancelled or cut off at an awkward moment: nothing.

No exception may reach the event loop either (fix_loop.py looks after that).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.feed import WalFeed, slot, survey
from django_pgnudge.feed.connect import addresses
from django_pgnudge.feed.connection import Connection
from django_pgnudge.feed.slot import create_slot
from tests.hostile import HostileServer, Peer
from tests.waiting import until

from .following import following, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.proxy import Proxy

    from tests.fix_servers import Database

NAME = "db.example"

MAKING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'walsender' AND wait_event_type = 'Lock'
"""


def feed_to(port: int, **options: Any) -> WalFeed:
    return WalFeed(port=port, user="u", database="d", plugin="test_decoding", **options)


async def test_a_slot_that_fails_while_its_server_is_looked_after_fails_once() -> None:
    """The command's own error is not the one that is raised, and nobody else asks for it."""
    looking, failed = asyncio.Event(), asyncio.Event()

    async def execute(sql: str) -> None:
        await looking.wait()
        failed.set()
        raise ConnectionLostError("the command")

    async def rows(sql: str, **options: Any) -> None:
        looking.set()
        await failed.wait()
        raise ConnectionLostError("the look")

    connection = SimpleNamespace(execute=execute, session=SimpleNamespace(backend_pid=1))
    side = SimpleNamespace(rows=rows)
    with pytest.raises(ConnectionLostError, match="the look"):
        await create_slot(
            cast("Any", connection), "name", ["plugin"], cast("Any", side), patience=0.0
        )


async def test_a_silent_server_does_not_hold_up_who_closes_a_feed_that_waits_for_a_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot, "_LAST_PATIENCE", 0.05)
    making = asyncio.Event()

    async def script(peer: Peer) -> None:
        if making.is_set():
            await peer.forever()
        await peer.serve("CREATE_REPLICATION_SLOT")
        making.set()
        await peer.forever()

    async with HostileServer(script) as server:
        async with feed_to(server.port, connect_timeout=60.0) as feed:
            await making.wait()
            async with asyncio.timeout(10):
                await feed.aclose()
        assert server.connections == 2


@pytest.mark.parametrize("within_reach", [True, False])
async def test_a_link_that_breaks_while_the_slot_is_made_leaves_no_session_that_makes_it(
    database: Database, proxy_to: Callable[..., Proxy], within_reach: bool
) -> None:
    """It would stay, with its slot, until the transaction that it waits for has ended."""
    proxy = proxy_to(database.postgres.port)
    blocker = database.connect()
    try:
        blocker.execute("BEGIN")
        blocker.execute("SELECT pg_current_xact_id()")
        options = database.feed_options(host=proxy.host, port=proxy.port, backoff=(0.01, 0.02))
        async with following(feed := WalFeed(**options), live=False):
            # Only while it waits for a transaction does the session not look after its client.
            await until(lambda: database.execute(MAKING), blocks=True)
            first = database.slots()
            if not within_reach:
                await run(proxy.refuse)
            await run(proxy.cut)
            if not within_reach:
                # What was to end the session has failed as well.
                await until(lambda: "cannot connect" in str(feed.last_error), blocks=True)
                assert database.slots() == first
                await run(proxy.listen)
            await until(lambda: database.slots() and database.slots() != first, blocks=True)
            await until(lambda: not set(first) & set(database.slots()), blocks=True)
        assert database.slots() == []
    finally:
        blocker.close()


class SlowClosing:
    """Connections that are being closed, which they are once ``go_on`` is set."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.connections: list[Any] = []

    def left_open(self) -> list[Any]:
        assert self.connections
        return [
            each
            for each in self.connections
            if not (each.closed.done() and each._transport.is_closing())  # noqa: SLF001 - is it left open?
        ]


@pytest.fixture
def slow_closing(monkeypatch: pytest.MonkeyPatch) -> SlowClosing:
    slow = SlowClosing()
    close = Connection.close

    async def slowly(self: Connection, **options: Any) -> None:
        slow.connections.append(self)
        slow.begun.set()
        await slow.go_on.wait()
        await close(self, **options)

    monkeypatch.setattr(Connection, "close", slowly)
    return slow


async def test_a_feed_closed_while_it_cleans_up_after_an_attempt_leaves_nothing(
    database: Database, slow_closing: SlowClosing
) -> None:
    async with WalFeed(**database.feed_options(plugin="pgoutput", publication="missing")) as feed:
        await slow_closing.begun.wait()
        ending = asyncio.create_task(feed.aclose())
        await asyncio.sleep(0)
        slow_closing.go_on.set()
        await ending
    assert slow_closing.left_open() == []


async def test_a_loop_that_ends_while_a_feed_cleans_up_leaves_nothing(
    database: Database, slow_closing: SlowClosing
) -> None:
    """`asyncio.run` cancels every task there is."""
    async with WalFeed(**database.feed_options(plugin="pgoutput", publication="missing")) as feed:
        await slow_closing.begun.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        slow_closing.go_on.set()
        await feed.aclose()
    assert slow_closing.left_open() == []


async def test_cancelling_aclose_does_not_leave_the_consumer_waiting() -> None:
    async with HostileServer(Peer.forever) as server:
        feed = feed_to(server.port)

        async def consume() -> list[Any]:
            return [item async for item in feed]

        consumer = asyncio.create_task(consume())
        await server.connected(1)
        closing = asyncio.create_task(feed.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        async with asyncio.timeout(10):
            assert await consumer == []
        await feed.aclose()


def resolving(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[str]]) -> None:
    """`NAME` has the addresses that ``answer`` says."""
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> list[Any]:
        if host != NAME:
            return real(host, port, *rest, **options)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (each, port)) for each in answer()]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_resolver_that_does_not_answer_does_not_hold_up_the_end_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered, released = threading.Event(), threading.Event()
    late: list[bool] = []

    def answer() -> list[str]:
        entered.set()
        late.append(not released.wait(10))
        return []

    resolving(monkeypatch, answer)

    async def main() -> None:
        async with feed_to(1, host=NAME):
            await asyncio.to_thread(entered.wait, 10)

    asyncio.run(main())
    assert not late
    released.set()


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, lambda: ["127.0.0.2", "127.0.0.1"])
    async with (
        HostileServer(Peer.forever) as server,
        feed_to(server.port, host=NAME),
    ):
        await server.connected(1)


async def test_a_name_whose_addresses_all_refuse_says_so_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, lambda: ["127.0.0.2", "127.0.0.3"])
    async with HostileServer(Peer.forever) as server:
        async with feed_to(server.port, host=NAME) as feed:
            error = await until(lambda: feed.last_error, blocks=True)
    assert "127.0.0.2" in str(error)
    assert "127.0.0.3" in str(error)


async def test_addresses_are_taken_as_they_are_and_keep_their_scope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 1, 0, 2)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **options: found)
    assert await addresses("127.0.0.1", 1) == ["127.0.0.1"]
    assert await addresses("fe80::1%2", 1) == ["fe80::1%2"]
    assert await addresses(NAME, 1) == ["fe80::1%2", "::1"]


async def test_a_survey_that_is_cancelled_closes_the_connection_that_it_met_the_server_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is when its daemon stops: nobody else knows of that connection."""
    closing, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def rows(sql: str, **options: Any) -> Any:
        return ()

    async def close(*, patience: float) -> None:
        closing.set()
        await may_end.wait()
        ended.set()

    async def connect(address: Any, *, replication: bool) -> Any:
        return SimpleNamespace(rows=rows, close=close)

    async def same(*given: Any) -> None:
        pass

    monkeypatch.setattr(survey, "connect", connect)
    monkeypatch.setattr(survey, "require_same", same)
    looking = asyncio.create_task(
        survey.look(cast("Any", SimpleNamespace(identity=None)), cast("Any", "server"), 60)
    )
    await closing.wait()
    looking.cancel()
    may_end.set()
    await asyncio.wait([looking])
    assert looking.cancelled()
    assert ended.is_set()
