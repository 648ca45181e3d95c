"""The PostgreSQL protocol without I/O: bytes in, events out, bytes to send.

The first hops of a byte's path: `framing` cuts the stream into messages, `messages` reads and
writes them, `auth` answers the server's challenges, and `session` is the state machine over all
three. Only `django_pgnudge.feed.connection` touches the socket.
"""

from __future__ import annotations

from .auth import Credentials
from .lsn import LSN
from .methods import ANY_METHOD, AcceptedMethods
from .session import (
    CopyDone,
    Keepalive,
    Notice,
    ParameterChanged,
    QueryFailed,
    QueryResult,
    Ready,
    Session,
    SessionEvent,
    State,
    StreamStarted,
    XLogData,
)

__all__ = [
    "ANY_METHOD",
    "LSN",
    "AcceptedMethods",
    "CopyDone",
    "Credentials",
    "Keepalive",
    "Notice",
    "ParameterChanged",
    "QueryFailed",
    "QueryResult",
    "Ready",
    "Session",
    "SessionEvent",
    "State",
    "StreamStarted",
    "XLogData",
]
