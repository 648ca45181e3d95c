"""wire/session.py: what a server says, in each state of a session."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import (
    AuthenticationError,
    ConnectionLostError,
    ProtocolError,
    ServerError,
)
from django_pgnudge.wire import (
    CopyDone,
    Credentials,
    Keepalive,
    Notice,
    ParameterChanged,
    QueryFailed,
    QueryResult,
    Ready,
    Session,
    SessionEvent,
    State,
    XLogData,
)

from . import backend
from .sessions import STATES, conversation, feed, new, querying, ready, streaming
from .test_framing import split

if TYPE_CHECKING:
    from collections.abc import Iterable


def test_the_fixtures_reach_their_states() -> None:
    assert {state: make().state for state, make in STATES.items()} == {
        state: state for state in STATES
    }


def test_a_session_opens_with_its_startup_message() -> None:
    made = new()
    data = made.data_to_send()
    for pair in (b"user\0jane\0", b"database\0shop\0", b"replication\0database\0",
                 b"client_encoding\0UTF8\0", b"application_name\0test\0"):  # fmt: skip
        assert pair in data
    assert made.data_to_send() == b""
    plain = Session(Credentials("jane"), database="shop", replication=False)
    assert b"replication" not in plain.data_to_send()


def test_a_login_tells_who_the_server_is() -> None:
    made = ready()
    assert made.backend_pid == 4242
    assert made.parameters["server_encoding"] == "UTF8"
    assert made.server_version == 150020


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15.20 (Debian 15.20-1)", 150020),
        ("18.0", 180000),
        ("17beta1", 170000),
        ("19devel", 190000),
        ("16rc2 (Debian 16~rc2-1)", 160000),
        ("14.4.7", 140004),
        ("", 0),
        ("devel", 0),
        ("\u00b2.\u00b2", 0),
        ("15.\u00b2", 150000),
        ("99999999999", 99990000),
    ],
)
def test_the_version_is_read_from_what_the_server_calls_itself(text: str, number: int) -> None:
    made = new()
    feed(made, backend.authentication(0), backend.parameter("server_version", text))
    assert made.server_version == number


def test_scram_runs_inside_a_session() -> None:
    made = new(password="x")
    made.data_to_send()
    assert feed(made, backend.sasl("SCRAM-SHA-256")) == []
    assert made.data_to_send().startswith(b"p")
    assert feed(made, backend.authentication(0)) == []
    assert isinstance(made.error, AuthenticationError)
    assert made.state is State.CLOSED


def test_protocol_negotiation_is_accepted() -> None:
    made = new()
    assert feed(made, backend.message(b"v", b"\0\3\0\0\0\0\0\0"), backend.login()) == [Ready()]


def comparable(events: Iterable[SessionEvent]) -> list[str]:
    return [repr(event) for event in events]


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_a_conversation_is_the_same_in_any_chunks(cuts: list[int]) -> None:
    data, events = conversation()
    assert comparable(feed(querying(), *split(data, cuts))) == comparable(events)


def test_a_conversation_is_the_same_byte_by_byte() -> None:
    data, events = conversation()
    made = querying()
    assert comparable(feed(made, *split(data, range(len(data))))) == comparable(events)
    assert made.state is State.IDLE


def test_a_query_gives_its_rows() -> None:
    made = querying("SELECT 'é'")
    assert made.data_to_send() == b"Q" + (16).to_bytes(4, "big") + "SELECT 'é'\0".encode()
    assert feed(made, backend.result(["a", "b"], ["1", None], ["é", ""])) == [
        QueryResult(("a", "b"), (("1", None), ("é", "")))
    ]


def test_the_last_of_several_results_counts() -> None:
    two = backend.row_description("a") + backend.data_row("1") + backend.complete()
    made = querying()
    assert feed(made, two, backend.result(["b"], ["2"])) == [QueryResult(("b",), (("2",),))]
    made.query("")
    assert feed(made, backend.message(b"I") + backend.ready()) == [QueryResult((), ())]


def test_a_failed_query_leaves_the_session_usable() -> None:
    made = querying()
    (event,) = feed(made, backend.error("no", "42P01") + backend.ready())
    assert isinstance(event, QueryFailed)
    assert event.error.sqlstate == "42P01"
    made.query("SELECT 1")
    assert feed(made, backend.result(["a"], ["1"])) == [QueryResult(("a",), (("1",),))]


def test_a_query_waits_for_the_one_before_it() -> None:
    with pytest.raises(ProtocolError, match="in QUERY"):
        querying().query("SELECT 2")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_a_fatal_error_ends_the_session_in_every_state(state: State, severity: str) -> None:
    made = STATES[state]()
    assert feed(made, backend.error("shutting down", "57P01", severity)) == []
    assert made.state is State.CLOSED
    assert isinstance(made.error, ServerError)
    assert made.error.sqlstate == "57P01"


@pytest.mark.parametrize("state", [State.STARTUP, State.LOGIN, State.IDLE])
def test_an_error_outside_a_command_ends_the_session(state: State) -> None:
    made = STATES[state]()
    feed(made, backend.error())
    assert isinstance(made.error, ServerError)


@pytest.mark.parametrize("state", STATES)
def test_a_notice_is_passed_on_in_every_state(state: State) -> None:
    made = STATES[state]()
    (event,) = feed(made, backend.notice("hm"))
    assert isinstance(event, Notice)
    assert event.notice.message == "hm"
    assert made.state is state


@pytest.mark.parametrize("state", STATES)
def test_a_parameter_may_change_in_every_state(state: State) -> None:
    made = STATES[state]()
    events = feed(made, backend.parameter("TimeZone", "UTC"))
    assert made.parameters["TimeZone"] == "UTC"
    assert events == ([ParameterChanged("TimeZone", "UTC")] if state is State.STREAM else [])


EXPECTED = {
    State.STARTUP: b"RNSEv",
    State.LOGIN: b"NSEKZ",
    State.IDLE: b"NSE",
    State.QUERY: b"NSETDCIcdWZ",
    State.STREAM: b"NSEdcC",
}


@pytest.mark.parametrize("state", STATES)
def test_a_message_out_of_place_ends_the_session(state: State) -> None:
    for kind in b"RKSZENTDCIAWGHdcv":
        made = STATES[state]()
        feed(made, backend.message(bytes([kind]), b"\0" * 12))
        if kind not in EXPECTED[state]:
            assert isinstance(made.error, ProtocolError), (kind, state)
            assert state.name in str(made.error)
            assert made.state is State.CLOSED


@pytest.mark.parametrize("state", STATES)
def test_the_end_of_the_connection_is_an_error_in_every_state(state: State) -> None:
    made = STATES[state]()
    made.receive_eof()
    assert str(made.error) == "the server closed the connection"
    assert isinstance(made.error, ConnectionLostError)
    made = STATES[state]()
    feed(made, b"Z\0")
    made.receive_eof()
    assert "in the middle of a message" in str(made.error)


def test_the_first_error_is_the_one_that_is_told() -> None:
    made = ready()
    feed(made, backend.error("first", severity="FATAL"))
    made.receive_eof()
    made.fail(ProtocolError("third"))
    assert isinstance(made.error, ServerError)
    assert not made.receive(backend.ready())
    assert made.next_event() is None


def test_the_stream_ends_from_this_side() -> None:
    made = streaming()
    made.stop_stream()
    made.stop_stream()
    assert made.data_to_send() == b"c\0\0\0\4"
    made.send_status(5, unix_time=0)
    assert made.data_to_send() == b""
    end = backend.copy_done() + backend.complete("COPY 0") + backend.ready()
    assert feed(made, backend.xlog(b"late", 1, 2) + end) == [
        XLogData(1, 2, b"late"),
        CopyDone(),
        QueryResult((), ()),
    ]
    assert made.data_to_send() == b""
    assert not made.stopping
    made.query("SELECT 1")


def test_the_stream_ends_from_the_other_side_and_is_answered() -> None:
    made = streaming()
    assert feed(made, backend.copy_done()) == [CopyDone()]
    assert made.data_to_send() == b"c\0\0\0\4"
    assert feed(made, backend.complete() + backend.ready()) == [QueryResult((), ())]


def test_a_server_that_shuts_down_says_so_without_ending_the_stream_first() -> None:
    made = streaming()
    events = feed(made, backend.keepalive(7) + backend.complete("COPY 0") + backend.keepalive(8))
    assert events == [Keepalive(7, False)]
    assert isinstance(made.error, ConnectionLostError)
    assert str(made.error) == "the server is shutting down"


def test_an_error_in_the_stream_ends_the_stream_and_not_the_session() -> None:
    made = streaming()
    data = backend.error("publication gone", "42704") + backend.copy_data(b"leftover")
    (event,) = feed(made, data + backend.ready())
    assert isinstance(event, QueryFailed)
    assert event.error.sqlstate == "42704"
    assert made.state is State.IDLE


def test_a_status_is_sent_in_a_stream_only() -> None:
    made = ready()
    made.send_status(1, unix_time=0)
    assert made.data_to_send() == b""
    made = streaming()
    made.send_status(0x1_0000_0001, unix_time=946_684_800, reply=True)
    kind, length, tag, written, flushed, applied, clock, reply = unpack(
        "!cIcQQQqB", made.data_to_send()
    )
    assert (kind, length, tag, clock, reply) == (b"d", 38, b"r", 0, 1)
    assert {written, flushed, applied} == {0x1_0000_0001}


def test_goodbye_is_said_to_a_server_that_listens() -> None:
    made = ready()
    made.terminate()
    assert made.data_to_send() == b"X\0\0\0\4"
    assert made.state is State.CLOSED
    made.receive_eof()
    assert made.error is None
    early = new()
    early.data_to_send()
    early.terminate()
    assert early.data_to_send() == b""


@pytest.mark.parametrize(
    "body",
    [b"", b"w", b"w" + b"\0" * 23, b"k", b"k" + b"\0" * 16, b"k" + b"\0" * 18, b"z" * 40],
)
def test_a_stream_carries_only_data_and_keepalives(body: bytes) -> None:
    made = streaming()
    feed(made, backend.copy_data(body))
    assert isinstance(made.error, ProtocolError)
