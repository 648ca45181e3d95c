from __future__ import annotations

import contextlib
from struct import pack, unpack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import ConfigError, PgNudgeError, ProtocolError
from django_pgnudge.wire import messages

from . import backend

if TYPE_CHECKING:
    from collections.abc import Callable

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def body(data: bytes) -> bytes:
    assert unpack("!I", data[1:5]) == (len(data) - 1,)
    return data[5:]


def test_startup_carries_version_and_parameters() -> None:
    data = messages.startup({"user": "jane", "database": "shöp"})
    length, version = unpack("!II", data[:8])
    assert (length, version) == (len(data), 3 << 16)
    assert data[8:] == "user\0jane\0database\0shöp\0\0".encode()


def test_ssl_request_has_its_code() -> None:
    assert messages.ssl_request() == pack("!IHH", 8, 1234, 5679)


def test_commands_are_framed() -> None:
    assert messages.query("SELECT 1") == b"Q" + pack("!I", 13) + b"SELECT 1\0"
    assert messages.password("é") == b"p\0\0\0\7\xc3\xa9\0"
    assert messages.password(b"md5") == b"p\0\0\0\x08md5\0"
    assert (
        messages.sasl_initial_response("S", b"n,,")
        == b"p" + pack("!I", 13) + b"S\0" + pack("!I", 3) + b"n,,"
    )
    assert messages.sasl_response(b"c=") == b"p\0\0\0\6c="
    assert messages.terminate() == b"X\0\0\0\4"
    assert messages.copy_done() == b"c\0\0\0\4"


def test_a_status_says_the_same_position_three_times() -> None:
    data = messages.standby_status(7, unix_time=946_684_801.5, reply=True)
    assert unpack("!cQQQqB", body(data)) == (b"r", 7, 7, 7, 1_500_000, 1)
    assert data[:1] == b"d"
    highest = (1 << 64) - 1
    assert unpack("!cQ", body(messages.standby_status(highest, unix_time=0, reply=False))[:9]) == (
        b"r",
        highest,
    )


@pytest.mark.parametrize(
    "write",
    [
        lambda text: messages.startup({"user": text}),
        messages.query,
        messages.password,
    ],
)
@pytest.mark.parametrize("bad", ["a\0b", "\udc80"])
def test_text_that_no_message_can_carry_is_a_mistake_in_the_configuration(
    write: Callable[[str], bytes], bad: str
) -> None:
    with pytest.raises(ConfigError):
        write(bad)


def test_a_password_is_in_no_error() -> None:
    with pytest.raises(ConfigError) as caught:
        messages.password("secret\0word")
    assert "secret" not in str(caught.value)


def test_an_error_has_its_fields() -> None:
    error = messages.error_response(
        backend.problem(b"E", S="FEHLER", V="ERROR", C="42P01", M="weg", D="wo?", H="da", X="?")[5:]
    )
    assert (error.severity, error.sqlstate, error.message) == ("ERROR", "42P01", "weg")
    assert (error.detail, error.hint) == ("wo?", "da")
    assert str(error) == "ERROR 42P01: weg DETAIL: wo? HINT: da"


def test_an_error_without_fields_is_still_an_error() -> None:
    error = messages.error_response(b"\0")
    assert (error.severity, error.sqlstate) == ("ERROR", "XX000")
    assert "no message" in str(error)


def test_a_localized_severity_is_used_by_servers_without_the_other() -> None:
    assert messages.error_response(b"SFATAL\0\0").severity == "FATAL"


def test_an_error_in_another_encoding_is_readable() -> None:
    assert messages.error_response(b"M\xe9chec\0\0").message == "\ufffdchec"


def test_an_endless_field_is_cut() -> None:
    error = messages.error_response(b"M" + b"x" * 1_000_000 + b"\0\0")
    assert len(error.message) == messages.MAX_FIELD


def test_an_error_cut_inside_a_field_is_refused() -> None:
    with pytest.raises(ProtocolError, match="inside a field"):
        messages.error_response(b"Mno end")


@given(text, text)
def test_a_parameter_is_two_strings(name: str, value: str) -> None:
    assert messages.parameter_status(backend.parameter(name, value)[5:]) == (name, value)


@pytest.mark.parametrize("bad", [b"", b"a", b"a\0", b"a\0b", b"a\0b\0c", b"a\0b\0c\0"])
def test_another_number_of_strings_is_no_parameter(bad: bytes) -> None:
    with pytest.raises(ProtocolError, match="two strings"):
        messages.parameter_status(bad)


@given(st.lists(text, max_size=10))
def test_column_names_are_read(names: list[str]) -> None:
    assert messages.row_description(backend.row_description(*names)[5:]) == tuple(names)


@given(st.lists(st.none() | text, max_size=10))
def test_values_are_read(values: list[str | None]) -> None:
    assert messages.data_row(backend.data_row(*values)[5:]) == tuple(values)


def test_a_value_from_a_database_without_encoding_keeps_its_bytes_readable() -> None:
    assert messages.data_row(backend.data_row(b"caf\xe9")[5:]) == ("caf\\xe9",)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\1\0\0\0\1",
        b"\0\1\0\0\0\1xy",
        b"\0\1\xff\xff\xff\xfe",
        b"\0\1\x7f\xff\xff\xffx",
        b"\0\0x",
        b"\xff\xff\0",
        b"\x7f\xff",
    ],
)
def test_a_row_that_is_not_one_is_refused(bad: bytes) -> None:
    with pytest.raises(ProtocolError, match="DataRow"):
        messages.data_row(bad)
    with pytest.raises(ProtocolError, match="RowDescription"):
        messages.row_description(bad)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        messages.data_row,
        messages.row_description,
        messages.parameter_status,
        messages.error_response,
    ):
        with contextlib.suppress(PgNudgeError):
            read(data)
