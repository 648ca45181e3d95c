"""wire/session.py: what a server says is bounded, whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import PgNudgeError, ProtocolError
from django_pgnudge.wire import Keepalive, State, XLogData, framing, session

from . import backend
from .sessions import STATES, conversation, feed, new, querying, streaming
from .test_framing import split


def test_a_message_too_long_to_hold_gives_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE", 200)
    monkeypatch.setattr(session, "OVERSIZED_PREFIX", 100)
    long = backend.xlog(b"y" * 1000, 1, 2)
    data = backend.keepalive(9) + long + backend.keepalive(10)
    expected = [Keepalive(9, False), XLogData(1, 2, b"y" * 75, complete=False)]
    expected.append(Keepalive(10, False))
    assert feed(streaming(), data) == expected
    assert feed(streaming(), *split(data, range(len(data)))) == expected


def test_a_long_message_outside_a_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE", 200)
    made = querying()
    feed(made, backend.copy_data(b"x" * 1000))
    assert isinstance(made.error, ProtocolError)


def test_parameters_are_bounded() -> None:
    made = new()
    feed(made, backend.authentication(0), backend.parameter("a" * 9999, "b" * 9999))
    assert max(map(len, [*made.parameters, *made.parameters.values()])) == 256
    feed(made, *(backend.parameter(f"p{number}", "v") for number in range(10_000)))
    assert isinstance(made.error, ProtocolError)
    assert len(made.parameters) < 300


@pytest.mark.parametrize("row", [("x" * 1000,), ()])
def test_results_are_bounded(row: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_MAX_RESULT", 100_000)
    made = querying()
    feed(made, backend.row_description("a"), backend.data_row(*row) * 5000)
    assert isinstance(made.error, ProtocolError)
    assert "exceeds" in str(made.error)


@given(st.sampled_from(list(STATES)), st.lists(st.integers(0, 300), max_size=5), st.data())
def test_mutated_messages_end_in_a_documented_error_or_nothing(
    state: State, cuts: list[int], data: st.DataObject
) -> None:
    good = bytearray(backend.login() + conversation()[0])
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=6)):
        good[place] = data.draw(st.integers(0, 255))
    made = STATES[state]()
    feed(made, *split(bytes(good), cuts))
    assert made.error is None or isinstance(made.error, PgNudgeError)
