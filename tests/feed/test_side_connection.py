"""The second connection's queue of queries, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.errors import ConnectionLostError, PgNudgeError, ServerError
from django_pgnudge.feed.address import Address
from django_pgnudge.feed.queries import VISIBILITY, Visibility
from django_pgnudge.feed.side_connection import SideConnection
from tests.hostile import HostileServer, Peer
from tests.wire import backend

if TYPE_CHECKING:
    from collections.abc import Callable


def side_connection_of(server: HostileServer, patience: float = 10.0) -> SideConnection:
    return SideConnection(Address("127.0.0.1", server.port, "u", "d"), patience=patience)


class Listening:
    """A server that notes what it is asked and answers what `reply` says, or not at all."""

    def __init__(self, reply: Callable[[str], bytes | None] | None = None) -> None:
        self.asked: list[str] = []
        self.reply = reply
        self.changed = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.login()
        while True:
            sql = await peer.query()
            self.asked.append(sql)
            self.changed.set()
            answer = peer.answer(sql) if self.reply is None else self.reply(sql)
            if answer is not None:
                await peer.send(answer)

    async def was_asked(self, words: str) -> None:
        async with asyncio.timeout(10):
            while not any(words in sql for sql in self.asked):
                self.changed.clear()
                await self.changed.wait()


def is_busy(side: SideConnection) -> bool:
    connection = side._connection  # noqa: SLF001 - nothing else tells before the answer
    return connection is not None and connection.busy


async def test_an_answer_is_told_and_the_next_query_asked_without_a_task() -> None:
    server_side = Listening()
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        await side.visibility()
        tasks = asyncio.all_tasks()
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        names: list[set[Any]] = []

        def second(view: Visibility | Exception) -> None:
            names.append({asyncio.current_task()})
            told.set_result(view)

        def first(view: Visibility | Exception) -> None:
            names.append({asyncio.current_task()})
            side.ask_visibility(second)
            assert is_busy(side), "the next query is on its way already"

        side.ask_visibility(first)
        assert is_busy(side)
        assert isinstance(await told, Visibility)
        assert names == [{None}, {None}], "in the event loop's callbacks"
        assert asyncio.all_tasks() - tasks == set()
        await side.aclose()


async def test_queries_are_answered_in_turn_over_one_connection() -> None:
    server_side = Listening(
        lambda sql: (
            backend.result(["x"], [sql]) if sql.startswith("SELECT ") else backend.result([])
        )
    )
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        answers = await asyncio.gather(*(side.rows(f"SELECT {n}") for n in range(20)))
        assert [rows[0][0] for rows in answers] == [f"SELECT {n}" for n in range(20)]
        assert server.connections == 1
        await side.aclose()


async def test_silence_fails_one_query_and_the_next_goes_over_a_new_connection() -> None:
    server_side = Listening(lambda sql: None if "deaf" in sql else backend.result(["x"], ["y"]))
    async with HostileServer(server_side) as server:
        side = side_connection_of(server, patience=0.5)
        deaf = asyncio.ensure_future(side.rows("SELECT deaf"))
        other = asyncio.ensure_future(side.rows("SELECT 1"))
        with pytest.raises(ConnectionLostError, match=r"did not answer a query for 0\.5 s"):
            await deaf
        assert await other == (("y",),)
        assert server.connections == 2
        await side.aclose()


async def test_a_server_that_accepts_no_login_fails_the_query_in_time() -> None:
    async def mute(peer: Peer) -> None:
        await peer.forever()

    async with HostileServer(mute) as server:
        side = side_connection_of(server, patience=0.05)
        with pytest.raises(ConnectionLostError, match="did not answer"):
            await side.rows("SELECT 1")
        await side.aclose()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancelled_query_takes_no_answer_of_another(waits: bool) -> None:
    server_side = Listening(lambda sql: None if "deaf" in sql else backend.result(["x"], [sql]))
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        first = asyncio.ensure_future(side.rows("SELECT deaf"))
        await server_side.was_asked("deaf")
        queued = asyncio.ensure_future(side.rows("SELECT queued"))
        last = asyncio.ensure_future(side.rows("SELECT last"))
        await asyncio.sleep(0)
        if waits:
            queued.cancel()
        first.cancel()
        assert await last == (("SELECT last",),)
        assert ("SELECT queued" in server_side.asked) is not waits
        await asyncio.wait([first, queued])
        await side.aclose()


async def test_an_error_of_the_server_drops_the_connection() -> None:
    server_side = Listening(
        lambda sql: (
            backend.error("no", "42501") + backend.ready()
            if "no" in sql
            else backend.result(["x"], ["y"])
        )
    )
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        with pytest.raises(ServerError, match="no"):
            await side.rows("SELECT no")
        assert await side.rows("SELECT 1") == (("y",),)
        assert server.connections == 2
        await side.aclose()


async def test_closing_fails_what_has_no_answer_and_all_that_comes_after() -> None:
    server_side = Listening(lambda sql: None)
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        asked = [asyncio.ensure_future(side.rows("SELECT 1")) for _ in range(3)]
        await server_side.was_asked("PREPARE")
        await side.aclose()
        for each in asked:
            with pytest.raises(ConnectionLostError, match="ended"):
                await each
        with pytest.raises(ConnectionLostError, match="ended"):
            await side.rows("SELECT 1")
        assert server.connections == 1


async def test_a_close_that_was_cancelled_is_made_up_for_by_the_next() -> None:
    async with HostileServer(Listening(lambda sql: backend.result(["x"], ["y"]))) as server:
        side = side_connection_of(server)
        await side.rows("SELECT 1")
        connection = side._connection  # noqa: SLF001 - is it left open?
        assert connection is not None
        closing = asyncio.create_task(side.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not connection.closed.done()
        await side.aclose()
        assert connection.closed.done()


async def test_the_query_for_a_snapshot_is_prepared_once() -> None:
    server_side = Listening()
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        for _ in range(3):
            await side.visibility()
        assert [sql.split()[0] for sql in server_side.asked] == ["PREPARE", *["EXECUTE"] * 3]
        await side.aclose()


async def test_where_a_pooler_forgets_prepared_statements_the_query_is_asked_whole() -> None:
    def forgets(sql: str) -> bytes:
        if sql.startswith("EXECUTE"):
            return backend.error("prepared statement does not exist", "26000") + backend.ready()
        return backend.result(["s", "l"], ["5:5:", None])

    server_side = Listening(forgets)
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        with pytest.raises(ServerError):
            await side.visibility()
        await side.visibility()
        assert server_side.asked[-1] == VISIBILITY
        await side.aclose()


async def test_where_nothing_can_be_prepared_the_query_is_asked_whole() -> None:
    server_side = Listening(
        lambda sql: (
            backend.error("no", "0A000") + backend.ready()
            if sql.startswith("PREPARE")
            else backend.result(["s", "l"], ["5:5:", None])
        )
    )
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        assert (await side.visibility()).snapshot.xmax == 5
        await side.aclose()


@pytest.mark.parametrize("row", [["nonsense", None], [None, None], ["5:5:", "no LSN"]])
async def test_an_answer_that_is_no_snapshot_is_told_as_an_error(row: list[str | None]) -> None:
    server_side = Listening(lambda sql: backend.result(["s", "l"], row))
    async with HostileServer(server_side) as server:
        side = side_connection_of(server)
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        side.ask_visibility(told.set_result)
        assert isinstance(await told, PgNudgeError)
        await side.aclose()


async def test_who_asks_with_a_callback_is_told_once() -> None:
    server_side = Listening(
        lambda sql: None if sql == "SELECT deaf" else backend.result(["x"], ["y"])
    )
    async with HostileServer(server_side) as server:
        side = side_connection_of(server, patience=0.5)
        told: list[Any] = []
        side.ask("SELECT deaf", told.append)
        side.ask("SELECT 1", told.append)
        assert await side.rows("SELECT 2") == (("y",),)
        assert [type(each) for each in told] == [ConnectionLostError, tuple]
        await side.aclose()
