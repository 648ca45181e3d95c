from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.decoding import TestDecoding, base, test_decoding
from django_pgnudge.decoding.base import MAX_KEY_TEXT, MAX_NAME, DecoderOptions
from django_pgnudge.errors import DecodeError
from tests.decoding.columns import column
from tests.decoding.recording import decode, decode_in_chunks, make, one
from tests.wire import backend
from tests.wire.test_framing import split

TRANSACTION = [
    b"BEGIN 700",
    b"table public.t: INSERT: id[integer]:1 name[text]:'it''s: UPDATE: x'",
    b"table public.t: INSERT: id[integer]:2 name[text]:null",
    b"table public.t: UPDATE: old-key: id[integer]:2 new-tuple: id[integer]:3 name[text]:'x'",
    b"table public.pair: DELETE: a[bigint]:7 b[text]:'\xc3\xa9'",
    b"message: transactional: 1 prefix: pgnudge, sz: 6 content:prices",
    b"table public.t, public.pair: TRUNCATE: restart_seqs cascade",
    b"COMMIT 700 (at 2000-01-01 00:00:01.5+00)",
]
TOLD = [
    ("begin", 700),
    ("rows", "public.t", 3, [(1,), (2,), (2,), (3,)]),
    ("rows", "public.pair", 1, [("é", 7)]),
    ("message", "prices"),
    ("rows", "public.t", 1, None),
    ("rows", "public.pair", 1, None),
    ("commit", 0x1000 + 8 * 8, 946_684_801.5),
]


def row(line: str, **options: Any) -> tuple[Any, ...]:
    return one("test_decoding", line.encode(options.get("encoding", "utf-8")), **options)


def keys(line: str, **options: Any) -> Any:
    return row(line, **options)[3]


def test_every_line_is_read() -> None:
    assert decode("test_decoding", TRANSACTION) == TOLD


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_any_chunks_tell_the_same(cuts: list[int]) -> None:
    data = backend.stream(TRANSACTION)
    pieces = decode_in_chunks("test_decoding", split(data, cuts))
    assert pieces.merged() == decode_in_chunks("test_decoding", [data]).merged()


def test_byte_by_byte_tells_the_same() -> None:
    data = backend.stream(TRANSACTION)
    pieces = decode_in_chunks("test_decoding", split(data, range(len(data))))
    assert pieces.merged() == decode_in_chunks("test_decoding", [data]).merged()


NAMES = [
    "plain", "Mixed Case", 'quo"te', '"', '""', "dot.ted", "comma, separated", "colon: INSERT: x",
    ": INSERT", "new\nline", "tab\tbed", "Größe", "日本", "it's", "[integer]:1", "(no-flags)",
    " ", "old-key", "back\\slash", "public.t: TRUNCATE: (no-flags)", "e" * 63,
]  # fmt: skip


def quoted(name: str) -> str:
    return name if name == "plain" else '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operation", ["INSERT: id[integer]:1", "TRUNCATE: (no-flags)"])
def test_names_are_unquoted(name: str, operation: str) -> None:
    assert row(f"table {quoted(name)}.{quoted(name)}: {operation}")[:3] == (
        "rows",
        f"{name}.{name}",
        1,
    )


def test_a_truncate_of_many_tables_names_each() -> None:
    line = ", ".join(f"{quoted(name)}.{quoted(name)}" for name in NAMES)
    told = decode("test_decoding", [f"table {line}: TRUNCATE: (no-flags)".encode()])
    assert told == [("rows", f"{name}.{name}", 1, None) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_key_columns_are_found_by_any_name(name: str) -> None:
    line = f"table public.t: INSERT: {quoted('x' + name)}[text]:'1' {quoted(name)}[integer]:2"
    assert keys(line, keys={"public.t": [column(name, "int4")]}) == [(2,)]


@pytest.mark.parametrize(
    "type_name",
    [
        "integer", "integer[]", "character varying(10)", "character varying(10)[]",
        "timestamp(3) with time zone", "numeric(10,2)", '"My Type"', '"My Type"[]', '"a]b["',
        'public."colon: x"', '"quo""te"', "interval day to second(3)", '"char"', "bit varying(5)",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "value",
    [
        "1", "null", "-1.5e-10", "NaN", "true", "''", "'x'", "'it''s'", "''''", "B'0101'",
        "unchanged-toast-datum", "' id[integer]:7'", "'a\nb'", "'{1,2}'", "'\\x00'", "'é'",
    ],
)  # fmt: skip
def test_columns_before_the_key_are_stepped_over(type_name: str, value: str) -> None:
    assert keys(f"table public.t: INSERT: other[{type_name}]:{value} id[integer]:5") == [(5,)]


@pytest.mark.parametrize(
    ("table", "column", "value", "key"),
    [
        ("t", "id[integer]", "-5", -5),
        ("t", "id[integer]", "2147483647", 2147483647),
        ("flag", '"on"[boolean]', "true", True),
        ("flag", '"on"[boolean]', "false", False),
        ("u", "id[uuid]", "'0b4e8c2a-0000-4000-8000-000000000001'", None),
        ("n", "id[numeric]", "1.50", "1.50"),
        ("b", "id[bytea]", "'\\x00ff'", "\\x00ff"),
        ("pair", "a[bigint]", "1 b[text]:'it''s'", ("it's", 1)),
        ("pair", "a[bigint]", "1 b[text]:''", ("", 1)),
    ],
)
def test_keys_of_every_type(table: str, column: str, value: str, key: Any) -> None:
    expected = value.strip("'") if key is None else key
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert keys(f"table public.{table}: INSERT: {column}:{value}") == [expected]


def test_a_full_identity_gives_the_old_row() -> None:
    line = (
        "table public.t: UPDATE: old-key: name[text]:'new-tuple: ' id[integer]:5 x[text]:'a' "
        "new-tuple: name[text]:'y' id[integer]:6"
    )
    assert keys(line) == [(5,), (6,)]


@pytest.mark.parametrize(
    "operation",
    [
        "DELETE: (no-tuple-data)",
        "INSERT: (no-tuple-data)",
        "INSERT: other[integer]:1",
        "INSERT: id[integer]:null",
        "UPDATE: id[integer]:unchanged-toast-datum",
        "UPDATE: old-key: other[integer]:1 new-tuple: id[integer]:1",
        "UPDATE: old-key: id[integer]:1 new-tuple: other[integer]:1",
        "TRUNCATE: (no-flags)",
        f"INSERT: id[text]:'{'x' * (MAX_KEY_TEXT + 3)}'",
    ],
)
def test_a_row_without_its_key_means_any_row(operation: str) -> None:
    assert row(f"table public.t: {operation}") == ("rows", "public.t", 1, None)


def test_past_max_keys_any_row_is_meant() -> None:
    line = b"table public.t: INSERT: id[integer]:%d"
    three = [line % number for number in range(3)]
    assert decode("test_decoding", three, max_keys=3)[0][3] == [(0,), (1,), (2,)]
    many = [line % number for number in range(30)]
    assert decode("test_decoding", many, max_keys=3) == [("rows", "public.t", 30, None)]


def test_tables_not_asked_for_are_left_out() -> None:
    told = decode("test_decoding", TRANSACTION, tables=["public.pair"])
    assert [each[1] for each in told if each[0] == "rows"] == ["public.pair"] * 2
    assert ("message", "prices") in told


def test_keys_are_collected_where_they_are_wanted() -> None:
    line = "table public.t: INSERT: id[integer]:1"
    assert keys(line, wants_keys=lambda payload: payload == "public.pair") is None


def test_refreshed_primary_keys_hold_from_the_next_message_on() -> None:
    decoder, recorder = make("test_decoding", keys={})
    line = backend.xlog(b"table public.t: INSERT: id[integer]:1")
    decoder.scan(line, 0)
    assert decoder.stale_keys == {"public.t"}
    decoder.set_primary_keys({"public.t": [column("id", "int4")]})
    decoder.scan(line, 0)
    assert [told[3] for told in recorder.log] == [None, [(1,)]]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("iso8859-1", "größe"), ("euc_jp", "日本"), ("koi8-r", "цена"), ("cp1252", "€")],
)
def test_the_database_encoding_is_read(encoding: str, name: str) -> None:
    line = f'table public."{name}": INSERT: "{name}"[text]:\'{name}\''
    known = {f"public.{name}": [column(name, "text")]}
    assert row(line, encoding=encoding, keys=known) == ("rows", f"public.{name}", 1, [(name,)])
    content = name.encode(encoding)
    message = b"message: transactional: 1 prefix: pgnudge, sz: %d content:" % len(content)
    assert one("test_decoding", message + content, encoding=encoding) == ("message", name)


def test_bytes_outside_the_encoding_stay_readable() -> None:
    line = b'table public."caf\xe9": INSERT: id[integer]:1'
    assert one("test_decoding", line)[1] == "public.caf\\xe9"


@pytest.mark.parametrize(
    "line",
    [
        b"message: transactional: 0 prefix: pgnudge, sz: 1 content:x",
        b"message: transactional: 1 prefix: pgnudge2, sz: 1 content:x",
        b"message: transactional: 1 prefix: , sz: 1 content:x",
        b"message: transactional: 1 prefix: pgnudge, sz: 9 content:, sz: 1 content:x",
        b"message: transactional: 1 prefix: pgnudge, sz: 99999999999 content:x",
    ],
)
def test_messages_of_others_nudge_nothing_and_break_nothing(line: bytes) -> None:
    assert decode("test_decoding", [line]) == []


def test_a_message_has_any_content() -> None:
    line = b"message: transactional: 1 prefix: pgnudge, sz: %d content:%b"
    for content in (b"a\nb: COMMIT", b"x" * 200, b"\0\xff"):
        told = one("test_decoding", line % (len(content), content))
        assert told == ("message", content.decode("utf-8", "backslashreplace"))
    for content in (b"", b"x" * 5000, b"public.t"):
        assert decode("test_decoding", [line % (len(content), content)]) == []


@pytest.mark.parametrize(
    "line",
    [
        b"table ",
        b"table public",
        b"table public: INSERT: x",
        b"table public.t",
        b'table public."t: INSERT: id[integer]:1',
        b'table public."t""',
        b"table public.t, public: TRUNCATE: (no-flags)",
        b"table public.t public.u: TRUNCATE: (no-flags)",
        b"table public.t: id[integer]:1",
        b"table public.t: MERGE: id[integer]:1",
        b"table public.t: INSERT: id[integer]:1x",
        b"table public.t: UPDATE: old-key: id[integer]:1 id[integer]:2",
        b"table public.t: UPDATE: old-key: id[integer]:1",
        b"BEGIN",
        b"BEGIN x",
        b"BEGIN 12345678901",
        b"BEGIN 1 ",
        b"COMMIT 1",
        b"COMMIT 1 (at infinity)",
        b"COMMIT 1 (at 2000-01-01 00:00:00)",
        b"COMMIT 1 (at )",
        b"opening a streamed block for transaction TXN 1",
    ],
)
def test_a_line_that_is_none_of_the_plugins_is_refused(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode("test_decoding", [line])


def test_a_row_too_long_to_hold_still_nudges() -> None:
    decoder, recorder = make("test_decoding")
    decoder.take_prefix(b"table public.t: INSERT: id[integer]:1 name[text]:'xxxxx")
    decoder.take_prefix(b"message: transactional: 0 prefix: other, sz: 99 content:xx")
    assert recorder.log == [("rows", "public.t", 1, None)]
    for bad in (b"table public", b'table public."t', b"BEGIN 1"):
        with pytest.raises(DecodeError):
            decoder.take_prefix(bad)


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_decoding, "MAX_TABLES", 10)
    monkeypatch.setattr(base, "MAX_TABLES", 10)
    decoder, _ = make("test_decoding")
    assert isinstance(decoder, TestDecoding)
    for number in range(100):
        decoder.scan(backend.xlog(b"table public.t%d: INSERT: id[integer]:1" % number), 0)
        assert len(decoder._tables) <= 10  # noqa: SLF001 - it is bounded
    decoder.forget_tables()
    decoder.scan(backend.xlog(b"table public.%b: INSERT: id[integer]:1" % (b"x" * MAX_NAME)), 0)
    assert decoder._tables == {}  # noqa: SLF001 - it is bounded


@pytest.mark.parametrize(
    "line",
    [
        b"table " + b'"' * 200_001,
        b"table " + b'""' * 100_000 + b'"',
        b"table a." + b'"' * 200_000 + b": INSERT: id[integer]:1",
        b"table public.t: INSERT: " + b'"' * 200_001,
        b"table public.t: INSERT: x[" + b"[]" * 100_000,
        b"table public.t: INSERT: x[" + b'"' * 200_001,
        b"table public.t: INSERT: x[text]:'" + b"''" * 100_000,
        b"table public.t: INSERT: " + b"x" * 200_000,
        b"table public.t: INSERT:" + b" x[y]:1" * 30_000,
        b"table public.t: UPDATE: old-key: id[integer]:1" + b" x[y]:1" * 30_000,
        b"table " + b"a.b, " * 40_000 + b"a.b: TRUNCATE: (no-flags)",
        b"BEGIN " + b"1" * 200_000,
        b"COMMIT 1 (at " + b"1" * 200_000,
        b"message: transactional: 1 prefix: pgnudge, sz: " + b"1" * 200_000,
    ],
)
def test_no_line_takes_longer_than_its_length(line: bytes) -> None:
    """A pattern that backtracks would not come back from these."""
    with contextlib.suppress(DecodeError):
        decode("test_decoding", [line])


@given(st.sampled_from(TRANSACTION), st.data())
def test_mutated_lines_are_read_or_refused(line: bytes, data: st.DataObject) -> None:
    changed = bytearray(line)
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    decoder, _ = make("test_decoding")
    for read in (lambda raw: decoder.scan(backend.xlog(raw), 0), decoder.take_prefix):
        with contextlib.suppress(DecodeError):
            read(bytes(changed))


def test_the_options_keep_empty_transactions() -> None:
    assert TestDecoding.start_options(DecoderOptions(), 150020)["skip-empty-xacts"] == "0"
