"""A wire session over asyncio: TCP, Unix sockets, TLS.

The first hop with I/O. A connection runs one command at a time; once a stream has started,
whatever arrives is handed to the stream's handler inside the event loop's read callback, so that
a change needs no task switch on its way to the coalescer.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from ..errors import ConnectionLostError, PgNudgeError, ProtocolError, TLSError
from ..log import get_logger
from ..wire import (
    Credentials,
    Notice,
    QueryFailed,
    QueryResult,
    Ready,
    Session,
    SessionEvent,
    State,
    StreamStarted,
    messages,
)
from . import session_settings
from .address import Address
from .read_pacing import ReadPacer

log = get_logger("django_pgnudge.feed")

Result = TypeVar("Result")

Rows: TypeAlias = tuple[tuple[str | None, ...], ...]
"""The rows of a query: text, or None for NULL."""

MAX_UNREAD = 64 * 1024
"""How many bytes of statuses wait for a server that does not read."""


class Connection(asyncio.Protocol):
    """One session; made by `connect.connect`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._answered: Callable[[SessionEvent | Exception], None] | None = None
        self._negotiating: asyncio.Future[None] | None = None
        self._on_stream: Callable[[], None] | None = None
        self._early = b""
        self._before = ""
        """What pins the settings of each query, where the session's own cannot be pinned."""
        self.closed: asyncio.Future[PgNudgeError] = self._loop.create_future()
        """Resolves, never raises, with the reason once the connection is gone."""
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._pacer = ReadPacer()
        self.last_inbound = time.monotonic()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Called again with the TLS transport after start_tls.
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.last_inbound = time.monotonic()
        if self._negotiating is not None:
            self._early += data
            if not self._negotiating.done():
                self._negotiating.set_result(None)
            return
        if self._session is None:
            self.abort(ProtocolError("the server spoke before it was spoken to"))
            return
        if self._session.receive(data):
            try:
                self._pump()
            except Exception as error:
                # A bug must reach the caller that waits, and not end in the event loop's log.
                if not self._answer(error):
                    raise
                self.abort(ConnectionLostError("the connection's reader failed"))
        if self._on_stream is not None:
            pause = self._pacer.pause(len(data), self.last_inbound)
            if pause:
                self._pause_reading(pause)

    def eof_received(self) -> None:
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._lose(exc)

    # Used by `connect`.

    async def negotiate_tls(self, address: Address, context: ssl_module.SSLContext) -> bool:
        """Ask for TLS and start it; False if the server does not offer it."""
        assert self._transport is not None
        if address.tls.negotiation == "postgres":
            self._negotiating = self._loop.create_future()
            if self.closed.done():
                raise self.closed.result()
            self._transport.write(messages.ssl_request())
            await self._negotiating
            # All that has arrived, not only what came with the first byte.
            reply = self._early
            self._negotiating, self._early = None, b""
            if reply == b"N":
                return False
            if reply[:1] == b"E":
                # A server too old or too busy to negotiate answers with an ErrorResponse.
                raise ConnectionLostError(f"the server refused the connection: {reply[5:200]!r}")
            if reply != b"S":
                # Bytes behind the S were sent before encryption, perhaps by another party
                # (CVE-2021-23222).
                raise ProtocolError(f"the server answered a request for TLS with {reply[:20]!r}")
        self._transport.pause_reading()
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=address.tls.server_name or address.host,
            )
        except ssl_module.SSLCertVerificationError as error:
            raise TLSError(
                f"the certificate of {address.host} is not accepted: {error.verify_message}"
            ) from None
        except ssl_module.SSLError as error:
            raise TLSError(f"TLS with {address.host} failed: {error.reason or error}") from None
        if transport is None:
            raise ConnectionLostError("the connection was lost while TLS started")
        self._transport = transport
        return True

    async def log_in(self, address: Address, *, replication: bool, pin_at_startup: bool) -> None:
        """Run the startup and authentication exchange, and pin the session's settings."""
        assert self._transport is not None
        self._session = Session(
            Credentials(
                address.user,
                address.password,
                self._transport.get_extra_info("ssl_object"),
                address.tls.channel_binding,
                address.methods,
            ),
            database=address.database,
            replication=replication,
            parameters={
                "application_name": address.application_name,
                **(session_settings.parameters(replication=replication) if pin_at_startup else {}),
            },
        )
        event = await self._next()
        if not isinstance(event, Ready):
            raise ProtocolError(f"the server answered the login with {type(event).__name__}")
        if self.session.parameters.get("server_encoding") == "SQL_ASCII":
            # Such a database holds any bytes, and the server refuses to send as UTF-8 what is not.
            await self.execute("SET client_encoding TO 'SQL_ASCII'")
        version = self.session.server_version
        if not replication and not pin_at_startup:
            self._before = session_settings.in_front_of_query(version)
        elif rest := session_settings.after_login(
            version, replication=replication, started=pin_at_startup
        ):
            await self.execute(rest)

    # What the feed uses.

    @property
    def session(self) -> Session:
        assert self._session is not None
        return self._session

    @property
    def busy(self) -> bool:
        """Whether the server still works on a command that was given up."""
        return not self.closed.done() and self.session.state is State.QUERY

    async def execute(self, sql: str) -> QueryResult | StreamStarted:
        """Run one command; ServerError if the server refuses it."""
        if self.closed.done():
            raise self.closed.result()
        self.session.query(self._before + sql)
        return _result(await self._next())

    async def rows(self, sql: str, *, columns: int = 1, at_least: int = 0) -> Rows:
        """Run one query and return its rows, as text; ProtocolError for another shape."""
        return _rows(await self.execute(sql), columns, at_least)

    def ask(
        self,
        sql: str,
        answered: Callable[[Rows | Exception], None],
        *,
        columns: int = 1,
        at_least: int = 0,
    ) -> None:
        """Run one query without a task: send it before this returns, and call ``answered`` in
        the event loop's read callback with the rows, or with what `rows` would raise.
        """

        def on_event(event: SessionEvent | Exception) -> None:
            try:
                if isinstance(event, Exception):
                    raise event
                rows = _rows(_result(event), columns, at_least)
            except Exception as error:
                answered(error)
            else:
                answered(rows)

        if self.closed.done():
            raise self.closed.result()
        self.session.query(self._before + sql)
        self._answered = on_event
        self._flush()

    def stream_to(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever the stream has brought something; it must not raise
        anything but PgNudgeError, which ends the connection."""
        self._on_stream = handler
        self._pump()

    def send_status(self, lsn: int, *, reply: bool = False) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size() > MAX_UNREAD:
            # A server that asks for statuses and does not read them gets no more of them.
            return
        self.session.send_status(lsn, unix_time=time.time(), reply=reply)
        self._flush()

    async def close(self, *, patience: float = 1.0) -> None:
        """End the stream and the session as the protocol has it.

        Waits up to ``patience`` seconds for the server to hang up, since by then it has dropped
        the session's slot; then drops the connection.
        """
        if self._session is not None and not self.closed.done():
            self._session.stop_stream()
            self._session.terminate()
            self._flush()
            await asyncio.wait([self.closed], timeout=patience)
        self.abort(ConnectionLostError("the connection was closed by this side"))
        await self.wait_gone()

    async def wait_gone(self) -> None:
        """Wait until an aborted connection's socket is closed, a turn of the event loop later."""
        await asyncio.wait([self._gone], timeout=0.2)

    def abort(self, error: PgNudgeError) -> None:
        """Drop the connection without telling the server."""
        self._fail(error)
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    async def _next(self) -> SessionEvent:
        if self.closed.done():
            raise self.closed.result()
        waiter: asyncio.Future[SessionEvent] = self._loop.create_future()

        answered = result_into(waiter)
        self._answered = answered
        self._flush()
        self._pump()
        try:
            return await waiter
        finally:
            if self._answered is answered:
                self._answered = None

    def _answer(self, event: SessionEvent | Exception) -> bool:
        """Call the callback that waits, which may send a query at once; False if none waits."""
        answered, self._answered = self._answered, None
        if answered is None:
            return False
        answered(event)
        return True

    def _pump(self) -> None:
        session = self.session
        if self._on_stream is not None:
            try:
                self._on_stream()
            except PgNudgeError as error:
                session.fail(error)
        else:
            # An idle connection is read, too: the server says there why it will hang up, and what
            # it says must not pile up.
            while session.state is State.IDLE or self._answered is not None:
                event = session.next_event()
                if event is None:
                    break
                if isinstance(event, Notice):
                    # Of a command; what is said in a stream is its reader's (`notices`).
                    log.debug("the server says: %r", str(event.notice))
                else:
                    self._answer(event)
        self._flush()
        if session.error is not None:
            self.abort(session.error)

    def _pause_reading(self, seconds: float) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            self._loop.call_later(seconds, self._resume_reading)

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self.session.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _lose(self, cause: Exception | None) -> None:
        error: PgNudgeError | None = None
        if self._session is not None:
            self._session.receive_eof()
            error = self._session.error
        if error is None or (cause is not None and type(error) is ConnectionLostError):
            why = f": {cause}" if cause else ""
            error = ConnectionLostError(f"the server closed the connection{why}")
        self.abort(error)

    def _fail(self, error: PgNudgeError) -> None:
        if self.closed.done():
            return
        self.closed.set_result(error)
        if self._negotiating is not None and not self._negotiating.done():
            self._negotiating.set_exception(error)
        self._answer(error)


def result_into(waiter: asyncio.Future[Result]) -> Callable[[Result | Exception], None]:
    """What to call with the result that ``waiter`` waits for, or with what went wrong."""

    def answered(result: Result | Exception) -> None:
        if waiter.done():
            return
        if isinstance(result, Exception):
            waiter.set_exception(result)
        else:
            waiter.set_result(result)

    return answered


def _result(event: SessionEvent) -> QueryResult | StreamStarted:
    if isinstance(event, QueryFailed):
        raise event.error
    if not isinstance(event, QueryResult | StreamStarted):
        raise ProtocolError(f"the server answered a command with {type(event).__name__}")
    return event


def _rows(result: QueryResult | StreamStarted, columns: int, at_least: int) -> Rows:
    if not isinstance(result, QueryResult):
        raise ProtocolError("the server answered a query with a stream")
    if len(result.rows) < at_least or any(len(row) != columns for row in result.rows):
        raise ProtocolError("the server answered a query with rows of another shape")
    return result.rows
