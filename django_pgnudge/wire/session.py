"""One session with a PostgreSQL server, from the startup message to the end of a stream.

The session takes bytes (`Session.receive`), yields events (`Session.next_event`) and gives the
bytes to send (`Session.data_to_send`). It raises nothing because of the server: a protocol error
or a refused login ends the session, and `Session.error` holds the reason.

While a stream runs, a decoder may take messages directly out of `Session.framer`. `next_event`
reads the messages that the decoder leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import TypeAlias

from ..errors import ConnectionLostError, PgNudgeError, ProtocolError, ServerError
from . import messages
from .auth import Authenticator, Credentials
from .framing import Framer

XLOG_HEADER = Struct("!cQQq")
"""The header of an XLogData body: 'w', start LSN, end LSN, the server's clock in microseconds."""

OVERSIZED_PREFIX = 64 * 1024
"""How many bytes of a stream message that is too long to hold are kept."""

_KEEPALIVE = Struct("!cQqB")
_MAX_RESULT = 64 * 1024 * 1024
_ROW_COST = 64
_MAX_PARAMETERS = 256
_VERSION = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ready:
    """The login succeeded, and the server accepts commands."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A command succeeded: its column names and rows. Of several results, the last one."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """A command failed; the session continues."""

    error: ServerError


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """START_REPLICATION succeeded: from here both sides send CopyData."""


@dataclass(frozen=True, slots=True)
class XLogData:
    """One message of the output plugin.

    If it is too long to hold, ``complete`` is False and ``payload`` is only the beginning.
    """

    start_lsn: int
    end_lsn: int
    payload: bytes
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server has sent everything up to ``lsn``; it may ask for a status reply at once."""

    lsn: int
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class CopyDone:
    """The server ended the stream."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The server sent a NoticeResponse; it is only logged."""

    notice: ServerError


@dataclass(frozen=True, slots=True)
class ParameterChanged:
    """The server sent a ParameterStatus inside a stream.

    This is an event so that the decoder scans the framer again before the session takes the next
    message.
    """

    name: str
    value: str


SessionEvent: TypeAlias = (
    Ready
    | QueryResult
    | QueryFailed
    | StreamStarted
    | XLogData
    | Keepalive
    | CopyDone
    | Notice
    | ParameterChanged
)


class State(Enum):
    STARTUP = auto()
    LOGIN = auto()
    """Authenticated; the server sends its parameters."""
    IDLE = auto()
    QUERY = auto()
    STREAM = auto()
    CLOSED = auto()


class Session:
    """The state of one connection, which runs one command at a time."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        database: str,
        replication: bool,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.framer = Framer()
        self.state = State.STARTUP
        self.error: PgNudgeError | None = None
        self.parameters: dict[str, str] = {}
        self.backend_pid = 0
        self.stopping = False
        """True after this side has ended the stream, until the server ends it too."""
        self._authenticator = Authenticator(credentials)
        self._out = bytearray(
            messages.startup(
                {
                    "user": credentials.user,
                    "database": database,
                    **({"replication": "database"} if replication else {}),
                    "client_encoding": "UTF8",
                    **(parameters or {}),
                }
            )
        )
        self._columns: tuple[str, ...] = ()
        self._rows: list[tuple[str | None, ...]] = []
        self._result_size = 0
        self._failure: ServerError | None = None

    @property
    def server_version(self) -> int:
        """The server's version in the form of ``server_version_num`` (150020), 0 if unknown."""
        match = _VERSION.match(self.parameters.get("server_version", ""))
        return int(match[1]) * 10_000 + int(match[2] or 0) if match else 0

    # Towards the server.

    def data_to_send(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def query(self, sql: str) -> None:
        """Send a command. The answer is QueryResult, QueryFailed or StreamStarted."""
        if self.state is not State.IDLE:
            raise ProtocolError(f"a command was sent while the session is in {self.state.name}")
        self._columns, self._rows, self._result_size, self._failure = (), [], 0, None
        self._out += messages.query(sql)
        self.state = State.QUERY

    def send_status(self, lsn: int, *, unix_time: float, reply: bool = False) -> None:
        """Report that everything up to ``lsn`` was processed; ``reply`` asks for a keepalive."""
        if self.state is State.STREAM and not self.stopping:
            self._out += messages.standby_status(lsn, unix_time=unix_time, reply=reply)

    def stop_stream(self) -> None:
        """End the stream from this side. The answer is CopyDone, then QueryResult."""
        if self.state is State.STREAM and not self.stopping:
            self.stopping = True
            self._out += messages.copy_done()

    def terminate(self) -> None:
        """Send Terminate and close the session; nothing is read after it."""
        if self.state not in (State.CLOSED, State.STARTUP):
            self._out += messages.terminate()
        self.state = State.CLOSED

    # From the server.

    def receive(self, data: bytes) -> bool:
        """Take bytes that arrived; True if an event may be ready."""
        return self.state is not State.CLOSED and self.framer.receive(data)

    def receive_eof(self) -> None:
        """The server closed the connection."""
        if self.state is not State.CLOSED:
            inside = " in the middle of a message" if self.framer.pending else ""
            self._fail(ConnectionLostError(f"the server closed the connection{inside}"))

    def fail(self, error: PgNudgeError) -> None:
        """End the session because of ``error``, which the reader of the stream found."""
        self._fail(error)

    def next_event(self) -> SessionEvent | None:
        """The next event, or None until more bytes arrive or the session has ended."""
        while self.state is not State.CLOSED:
            try:
                message = self.framer.at_hand()
                if message is None:
                    if self.state is State.STREAM and self.framer.oversized:
                        prefix = self.framer.next_oversized(OVERSIZED_PREFIX)
                        return None if prefix is None else _copy_data(prefix, complete=False)
                    message = self.framer.next_message()
                    if message is None:
                        return None
                event = self._handle(*message)
            except PgNudgeError as error:
                self._fail(error)
                return None
            if event is not None:
                return event
        return None

    def _fail(self, error: PgNudgeError) -> None:
        self.state = State.CLOSED
        self.error = self.error or error

    def _handle(self, kind: bytes, body: bytes) -> SessionEvent | None:
        match kind:
            case b"N":
                return Notice(messages.error_response(body))
            case b"S":
                name, value = (text[:256] for text in messages.parameter_status(body))
                self.parameters[name] = value
                if len(self.parameters) > _MAX_PARAMETERS:
                    raise ProtocolError(f"the server reports over {_MAX_PARAMETERS} parameters")
                return ParameterChanged(name, value) if self.state is State.STREAM else None
            case b"E":
                self._error_response(messages.error_response(body))
                return None
        match self.state:
            case State.STARTUP:
                self._startup(kind, body)
                return None
            case State.LOGIN:
                return self._login(kind, body)
            case State.QUERY:
                return self._query_answer(kind, body)
            case State.STREAM:
                return self._stream(kind, body)
        raise self._unexpected(kind)

    def _unexpected(self, kind: bytes) -> ProtocolError:
        return ProtocolError(f"the server sent message {kind!r} in state {self.state.name}")

    def _error_response(self, error: ServerError) -> None:
        fatal = error.severity in ("FATAL", "PANIC")
        if fatal or self.state not in (State.QUERY, State.STREAM):
            raise error
        # An error ends the stream. ReadyForQuery follows, as after any failed command.
        self._failure = error
        self.state = State.QUERY

    def _startup(self, kind: bytes, body: bytes) -> None:
        if kind == b"v":
            return
        if kind != b"R":
            raise self._unexpected(kind)
        self._out += self._authenticator.answer(body)
        if self._authenticator.done:
            self.state = State.LOGIN

    def _login(self, kind: bytes, body: bytes) -> Ready | None:
        if kind == b"K" and len(body) >= 8:
            self.backend_pid = int.from_bytes(body[:4], "big")
            return None
        if kind == b"Z":
            self.state = State.IDLE
            return Ready()
        raise self._unexpected(kind)

    def _query_answer(self, kind: bytes, body: bytes) -> SessionEvent | None:
        match kind:
            case b"T":
                self._columns, self._rows = messages.row_description(body), []
            case b"D":
                self._result_size += len(body) + _ROW_COST
                if self._result_size > _MAX_RESULT:
                    raise ProtocolError(f"a query's result exceeds {_MAX_RESULT} bytes")
                self._rows.append(messages.data_row(body))
            case b"C" | b"I" | b"c" | b"d":
                # CopyDone and leftover CopyData belong to a stream that an error ended.
                pass
            case b"W":
                self.state = State.STREAM
                return StreamStarted()
            case b"Z":
                self.state, self.stopping = State.IDLE, False
                if self._failure is not None:
                    return QueryFailed(self._failure)
                return QueryResult(self._columns, tuple(self._rows))
            case _:
                raise self._unexpected(kind)
        return None

    def _stream(self, kind: bytes, body: bytes) -> SessionEvent | None:
        if kind == b"d":
            return _copy_data(body, complete=True)
        if kind == b"c":
            if not self.stopping:
                self.stop_stream()
            self.state = State.QUERY
            return CopyDone()
        if kind == b"C":
            # When its server shuts down, a walsender sends everything, then CommandComplete without
            # CopyDone (WalSndDone in src/backend/replication/walsender.c).
            raise ConnectionLostError("the server is shutting down")
        raise self._unexpected(kind)


def _copy_data(body: bytes, *, complete: bool) -> XLogData | Keepalive:
    if body[:1] == b"w" and len(body) >= XLOG_HEADER.size:
        _, start, end, _ = XLOG_HEADER.unpack_from(body)
        return XLogData(start, end, body[XLOG_HEADER.size :], complete)
    if body[:1] == b"k" and len(body) == _KEEPALIVE.size:
        _, lsn, _, reply = _KEEPALIVE.unpack(body)
        return Keepalive(lsn, bool(reply))
    raise ProtocolError(f"a stream message {body[:1]!r} of {len(body)} bytes is not known")
