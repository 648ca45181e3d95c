"""progress.py: the server is asked for its position until it says what is waited for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.feed import progress as module
from django_pgnudge.feed.progress import Progress


class Server:
    """A connection and a side connection: each status moves the log by one, if it ``moves``."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.progress = Progress(SimpleNamespace(flush=self.flush))  # type: ignore[arg-type]
        self.asked: list[tuple[int, bool]] = []
        self.flushed_after: list[int] = []
        self.moves = True

    async def flush(self) -> None:
        self.flushed_after.append(len(self.asked))
        raise ConnectionLostError("that it fails does no harm")

    def send_status(self, lsn: int, *, reply: bool = False) -> None:
        self.asked.append((lsn, reply))
        if self.moves:
            self.progress.advance(lsn + 1)
            self.progress.notify()


async def until(server: Server, lsn: int) -> bool:
    async with asyncio.timeout(10):
        return await server.progress.until(
            lambda: server.progress.position >= lsn,
            server,  # type: ignore[arg-type]
        )


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)


async def test_what_is_reached_is_not_asked_for() -> None:
    server = Server()
    assert await until(server, 0)
    assert server.asked == []


@pytest.mark.usefixtures("no_pause")
async def test_the_position_is_asked_for_and_in_some_turns_the_log_is_flushed() -> None:
    server = Server()
    assert await until(server, 230)
    assert server.asked == [(lsn, True) for lsn in range(230)]
    assert server.flushed_after == [20, 220]


async def test_the_position_never_goes_back() -> None:
    server = Server()
    server.progress.advance(7)
    server.progress.advance(5)
    assert server.progress.position == 7


async def test_the_end_of_the_connection_ends_the_wait() -> None:
    server = Server()
    server.moves = False
    waiting = asyncio.create_task(until(server, 1))
    await asyncio.sleep(0)
    server.closed.set_result(ConnectionLostError("gone"))
    assert not await waiting
