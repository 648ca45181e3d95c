"""A server that follows a script: whatever a test wants a client to meet.

A script is an async function that is given a `Peer` and speaks as a server; each connection runs
it anew. `Peer.login` and `Peer.serve` behave, so that a script can misbehave at one point only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from tests.wire import backend

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.fix_tls import Pair

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
SNAPSHOT = "100:100:"


class Peer:
    """One client, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.replication = False
        self.asked_for_tls = False

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def startup(self) -> bytes:
        """The startup message; a request for TLS before it is answered with no."""
        while True:
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            body = await self.reader.readexactly(length - 4)
            if length != 8:
                self.replication = b"replication\0" in body
                return body
            self.asked_for_tls = True
            await self.send(b"N")

    async def message(self) -> tuple[bytes, bytes]:
        kind = await self.reader.readexactly(1)
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        return kind, await self.reader.readexactly(length - 4)

    async def login(self, version: str = "15.20") -> None:
        await self.startup()
        await self.send(backend.login(version))

    async def query(self) -> str:
        """The next command; ends the connection with everything else that says goodbye."""
        while True:
            kind, body = await self.message()
            if kind == b"Q":
                return body[:-1].decode()
            if kind == b"X":
                raise EOFError

    def answer(self, sql: str) -> bytes:
        """What an empty server says."""
        if sql.startswith("CREATE_REPLICATION_SLOT"):
            row = ["slot", "0/100", None, "test_decoding"]
            return backend.result(["slot_name", "consistent_point", "snapshot_name", "o"], row)
        if "snapshot" in sql:
            return backend.result(["s", "l"], [SNAPSHOT, None])
        if "pg_stat_activity WHERE pid" in sql:
            return backend.result(["a", "b"], ["true", "none"])
        if "pg_postmaster_start_time" in sql:
            return backend.result(["s", "r", "i", "t"], ["1.5", "false", "7", "00000001"])
        return backend.result(["x"])

    async def serve(self, until: str = "START_REPLICATION") -> str:
        """Log the client in and answer its commands up to one that begins with `until`."""
        await self.login()
        while True:
            sql = await self.query()
            if sql.lstrip().startswith(until):
                return sql
            await self.send(self.answer(sql))

    async def stream(self, *data: bytes) -> None:
        """Serve a client up to its stream, and send this in it."""
        await self.serve()
        await self.send(backend.copy_both(), *data)

    async def forever(self) -> None:
        """Read what comes until the client goes."""
        while await self.reader.read(65536):
            pass


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class HostileServer:
    """`async with HostileServer(script) as server:` listens on `server.port`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.changed.set()
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self.script(Peer(reader, writer))
        finally:
            writer.transport.abort()

    async def connected(self, times: int) -> None:
        """Wait until so many connections have come."""
        async with asyncio.timeout(10):
            while self.connections < times:
                self.changed.clear()
                await self.changed.wait()


def server_context(pair: Pair) -> ssl_module.SSLContext:
    context = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context
