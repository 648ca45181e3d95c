"""Sessions in each of their states, and what a server says to them."""

from __future__ import annotations

from django_pgnudge.errors import ServerError
from django_pgnudge.wire import (
    CopyDone,
    Credentials,
    Keepalive,
    Notice,
    ParameterChanged,
    QueryResult,
    Ready,
    Session,
    SessionEvent,
    State,
    StreamStarted,
    XLogData,
)

from . import backend


def new(password: str | None = None, tls: object | None = None) -> Session:
    return Session(
        Credentials("jane", password, tls),
        database="shop",
        replication=True,
        parameters={"application_name": "test"},
    )


def feed(made: Session, *chunks: bytes) -> list[SessionEvent]:
    events: list[SessionEvent] = []
    for chunk in chunks:
        if made.receive(chunk):
            events += iter(made.next_event, None)
    return events


def ready() -> Session:
    made = new()
    assert feed(made, backend.login()) == [Ready()]
    made.data_to_send()
    return made


def querying(sql: str = "SELECT 1") -> Session:
    made = ready()
    made.query(sql)
    return made


def streaming() -> Session:
    made = querying("START_REPLICATION")
    assert feed(made, backend.copy_both()) == [StreamStarted()]
    made.data_to_send()
    return made


def _log_in() -> Session:
    made = new()
    feed(made, backend.authentication(0))
    return made


STATES = {
    State.STARTUP: new,
    State.LOGIN: _log_in,
    State.IDLE: ready,
    State.QUERY: querying,
    State.STREAM: streaming,
}


def conversation() -> tuple[bytes, list[SessionEvent]]:
    """What a server says from the start of a stream to its clean end."""
    data = b"".join(
        [
            backend.copy_both(),
            backend.keepalive(0x10, reply=True),
            backend.xlog(b"one", 1, 2),
            backend.notice("n"),
            backend.parameter("TimeZone", "UTC"),
            backend.xlog(b"two", 3, 4),
            backend.copy_done(),
            backend.complete("COPY 0"),
            backend.complete("START_REPLICATION"),
            backend.ready(),
        ]
    )
    notice = ServerError("n", sqlstate="00000", severity="NOTICE")
    events: list[SessionEvent] = [
        StreamStarted(),
        Keepalive(0x10, True),
        XLogData(1, 2, b"one"),
        Notice(notice),
        ParameterChanged("TimeZone", "UTC"),
        XLogData(3, 4, b"two"),
        CopyDone(),
        QueryResult((), ()),
    ]
    return data, events
