"""A TCP proxy that breaks connections in the ways networks do.

    from servers.proxy import Proxy

    with Proxy(postgres.port) as proxy:
        connect_a_client_to(proxy.port)
        proxy.stall("to_client")

It runs an event loop in a thread of its own, so it serves synchronous code, asynchronous code and
subprocesses alike, and every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Literal, Self

from servers.process import LOOPBACK, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

Direction = Literal["to_server", "to_client"]
BOTH: tuple[Direction, Direction] = ("to_server", "to_client")


class Link:
    """One client's connection and ours to the server."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.server: asyncio.StreamWriter | None = None

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self.client, self.server) if writer is not None]

    def reset(self) -> None:
        """RST instead of FIN: a linger time of zero throws away what is unsent."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


class Proxy:
    """Forwards 127.0.0.1:`port` to a TCP address or, given a path, to a Unix socket.

    hook(direction, data) sees every chunk and returns what to send on instead; None or b"" sends
    nothing on. delay: seconds every chunk waits. record=True keeps the chunks in `recorded`.
    """

    def __init__(
        self,
        target: int | tuple[str, int] | str,
        *,
        hook: Callable[[Direction, bytes], bytes | None] | None = None,
        delay: float = 0.0,
        record: bool = False,
    ) -> None:
        self.target = (LOOPBACK, target) if isinstance(target, int) else target
        self.hook = hook
        self.delay = delay
        self.recorded: list[tuple[Direction, bytes]] = []
        self.record = record
        self.accepted = 0
        self.errors: list[BaseException] = []
        self.host = LOOPBACK
        self.port = 0
        self._half_open = False
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gates: dict[Direction, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def stop(self) -> None:
        """Cut everything and end the thread. Safe to call twice."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection, as a crashed peer or a firewall does."""
        self._call(self._each(Link.reset))

    def close(self) -> None:
        """Close every connection in an orderly way."""
        self._call(self._each(Link.close))

    def stall(self, *directions: Direction) -> None:
        """Forward nothing more in these directions (default both); connections stay open."""
        self._call(self._set_gates(directions or BOTH, open_=False))

    def resume(self, *directions: Direction) -> None:
        self._call(self._set_gates(directions or BOTH, open_=True))

    def half_open(self, on: bool = True) -> None:
        """New connections are accepted, read and never answered; the server hears of none."""
        self._half_open = on

    def refuse(self) -> None:
        """Stop listening, so that new connections are refused. Those that are open stay."""
        self._call(self._close_listener())

    def listen(self) -> None:
        """Listen again, at the same port."""
        self._call(self._open())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def wait_for_connections(self, number: int, *, timeout: float = 15.0) -> None:
        """Until that many have been accepted in all."""
        wait_until(
            lambda: self.accepted >= number,
            f"{number} connections to the proxy (there were {self.accepted})",
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _open(self) -> None:
        for direction in BOTH:
            gate = self._gates.setdefault(direction, asyncio.Event())
            if not self.port:
                gate.set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _shut(self) -> None:
        await self._close_listener()
        for link in list(self._links):
            link.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # The transports report their end in callbacks of their own.
        await asyncio.sleep(0)

    async def _each(self, action: Callable[[Link], None]) -> None:
        for link in list(self._links):
            action(link)

    async def _set_gates(self, directions: tuple[Direction, ...], *, open_: bool) -> None:
        for direction in directions:
            gate = self._gates[direction]
            if open_:
                gate.set()
            else:
                gate.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = Link(self, writer)
        self._links.add(link)
        self.accepted += 1
        try:
            await self._serve(link, reader)
        except (OSError, asyncio.CancelledError):
            pass
        except BaseException as error:  # a hook that raises must not look like a broken network
            self.errors.append(error)
        finally:
            link.reset() if self.errors else link.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _serve(self, link: Link, reader: asyncio.StreamReader) -> None:
        if self._half_open:
            while await reader.read(65536):
                pass
            return
        if isinstance(self.target, str):
            answer, link.server = await asyncio.open_unix_connection(self.target)
        else:
            answer, link.server = await asyncio.open_connection(*self.target)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._pump("to_server", reader, link.server))
            pumps.create_task(self._pump("to_client", answer, link.client))

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._gates[direction].wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.record:
                    self.recorded.append((direction, data))
                changed = self.hook(direction, data) if self.hook else data
                if changed:
                    writer.write(changed)
                    await writer.drain()
            # A stalled direction keeps the end of the stream to itself too.
            await self._gates[direction].wait()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()
