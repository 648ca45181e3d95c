from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.decoding import DecoderOptions, Wal2Json, wal2json
from django_pgnudge.decoding.base import MAX_KEY_TEXT, MAX_NAME
from django_pgnudge.errors import DecodeError
from tests.decoding.columns import column
from tests.decoding.recording import decode, decode_in_chunks, make, one
from tests.wire import backend
from tests.wire.test_framing import split

HEAD = '"xid":700,"timestamp":"2000-01-01 00:00:01.5+00"'


def dump(value: Any, *, ascii_only: bool = False) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)


def columns(values: dict[str, Any]) -> str:
    return dump([{"name": name, "value": value} for name, value in values.items()])


def change(
    action: str,
    table: str = "t",
    new: dict[str, Any] | None = None,
    old: dict[str, Any] | None = None,
    schema: str = "public",
) -> bytes:
    """A row as wal2json 2 writes it: fixed order, no spaces."""
    text = f'{{"action":"{action}",{HEAD},"schema":{dump(schema)},"table":{dump(table)}'
    if new is not None:
        text += f',"columns":{columns(new)}'
    if old is not None:
        text += f',"identity":{columns(old)}'
    return (text + "}").encode()


def message(content: str, prefix: str = "pgnudge", *, transactional: bool = True) -> bytes:
    return (
        f'{{"action":"M",{HEAD},"transactional":{dump(transactional)},'
        f'"prefix":{dump(prefix)},"content":{dump(content)}}}'
    ).encode()


TRANSACTION = [
    f'{{"action":"B",{HEAD}}}'.encode(),
    change("I", "t", {"id": 1, "name": 'it"s "schema":"x'}),
    change("I", "t", {"id": 2, "name": None}),
    change("U", "t", {"id": 3, "name": "x"}, {"id": 2}),
    change("D", "pair", old={"a": 7, "b": "é"}),
    message("prices"),
    change("T", "t"),
    change("T", "pair"),
    f'{{"action":"C",{HEAD}}}'.encode(),
]
TOLD = [
    ("begin", 700),
    ("rows", "public.t", 3, [(1,), (2,), (3,), (2,)]),
    ("rows", "public.pair", 1, [("é", 7)]),
    ("message", "prices"),
    ("rows", "public.t", 1, None),
    ("rows", "public.pair", 1, None),
    ("commit", 0x1000 + 8 * 9, 946_684_801.5),
]


def test_every_action_is_read() -> None:
    assert decode("wal2json", TRANSACTION) == TOLD


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_any_chunks_tell_the_same(cuts: list[int]) -> None:
    data = backend.stream(TRANSACTION)
    pieces = decode_in_chunks("wal2json", split(data, cuts))
    assert pieces.merged() == decode_in_chunks("wal2json", [data]).merged()


def test_byte_by_byte_tells_the_same() -> None:
    data = backend.stream(TRANSACTION)
    pieces = decode_in_chunks("wal2json", split(data, range(len(data))))
    assert pieces.merged() == decode_in_chunks("wal2json", [data]).merged()


NAMES = [
    "plain", 'quo"te', '"', '"}', 'a"}b', '"},', '","columns":[', '","table":"x', "\\", '\\"',
    'back\\slash"}', "dot.ted", "a,b", ": INSERT", "new\nline", "\t\x01", "Größe", "日本", "'",
    '"schema":"',
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", ["I", "U", "D", "T"])
def test_names_are_plain(name: str, action: str) -> None:
    payload = change(action, name, {name: name} if action in "IU" else None, schema=name)
    known = {f"{name}.{name}": [column(name, "text")]}
    keys = [(name,)] if action in "IU" else None
    expected = ("rows", f"{name}.{name}", 1, keys)
    if action == "D":
        payload = change("D", name, old={name: name}, schema=name)
        expected = ("rows", f"{name}.{name}", 1, [(name,)])
    assert one("wal2json", payload, keys=known) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_beginning_of_a_long_row_names_its_table(name: str) -> None:
    decoder, recorder = make("wal2json")
    payload = change("I", name, {"id": 1, "text": "x" * 999}, schema=name)
    decoder.take_prefix(payload[:-900])
    assert recorder.log == [("rows", f"{name}.{name}", 1, None)]


def test_a_long_beginning_without_a_table_is_refused_unless_it_is_a_message() -> None:
    decoder, recorder = make("wal2json", tables=["public.other"])
    decoder.take_prefix(message("x" * 999, prefix="other")[:200])
    decoder.take_prefix(change("I", "t", {"id": 1}))
    assert recorder.log == []
    for bad in (b'{"action":"I"', b"[" * 100, change("I", "t" * 200)[:150]):
        with pytest.raises(DecodeError, match="does not begin with a table"):
            decoder.take_prefix(bad)


@pytest.mark.parametrize(
    ("table", "column", "value", "key"),
    [
        ("t", "id", "-5", -5),
        ("t", "id", "9223372036854775807", 9223372036854775807),
        ("flag", "on", "true", True),
        ("flag", "on", "false", False),
        ("u", "id", '"0b4e8c2a-0000-4000-8000-000000000001"', None),
        ("n", "id", "1.50", "1.50"),
        ("n", "id", "1e400", "1e400"),
        ("b", "id", '"00ff"', "\\x00ff"),
        ("b", "id", '""', "\\x"),
    ],
)
def test_keys_of_every_type(table: str, column: str, value: str, key: Any) -> None:
    payload = change("I", table, {}).replace(
        b"[]", b'[{"name":"%b","value":%b}]' % (column.encode(), value.encode())
    )
    expected = value.strip('"') if key is None else key
    assert one("wal2json", payload) == ("rows", f"public.{table}", 1, [(expected,)])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"other": 1},
        {"id": None},
        {"id": [1]},
        {"id": {"a": 1}},
        {"id": "x" * (MAX_KEY_TEXT + 1)},
    ],
)
def test_a_row_without_its_key_means_any_row(values: dict[str, Any]) -> None:
    assert one("wal2json", change("I", "t", values)) == ("rows", "public.t", 1, None)


def test_a_row_without_columns_means_any_row() -> None:
    assert one("wal2json", change("U", "t")) == ("rows", "public.t", 1, None)
    odd = b'{"action":"I","schema":"public","table":"t","columns":[1,{"name":[]},{"value":1}]}'
    assert one("wal2json", odd) == ("rows", "public.t", 1, None)


def test_past_max_keys_any_row_is_meant() -> None:
    three = [change("I", "t", {"id": number}) for number in range(3)]
    assert decode("wal2json", three, max_keys=3)[0][3] == [(0,), (1,), (2,)]
    many = [change("I", "t", {"id": number}) for number in range(30)]
    assert decode("wal2json", many, max_keys=3) == [("rows", "public.t", 30, None)]


def test_tables_not_asked_for_are_left_out() -> None:
    told = decode("wal2json", TRANSACTION, tables=["public.pair"])
    assert [each[1] for each in told if each[0] == "rows"] == ["public.pair"] * 2


def test_refreshed_primary_keys_hold_from_the_next_message_on() -> None:
    decoder, recorder = make("wal2json", keys={})
    row = backend.xlog(change("I", "t", {"id": 1}))
    decoder.scan(row, 0)
    assert decoder.stale_keys == {"public.t"}
    decoder.set_primary_keys({"public.t": [column("id", "int4")]})
    decoder.scan(row, 0)
    assert [told[3] for told in recorder.log] == [None, [(1,)]]


def test_only_transactional_messages_of_our_prefix_nudge() -> None:
    payloads = [message("x", transactional=False), message("x", prefix="other")]
    assert decode("wal2json", payloads) == []


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("iso8859-1", "größe"), ("euc_jp", "日本"), ("koi8-r", "цена"), ("cp1252", "€")],
)
def test_the_database_encoding_is_read(encoding: str, name: str) -> None:
    payload = change("I", name, {name: name}).decode().encode(encoding)
    known = {f"public.{name}": [column(name, "text")]}
    assert one("wal2json", payload, keys=known, encoding=encoding) == (
        "rows",
        f"public.{name}",
        1,
        [(name,)],
    )


def test_bytes_outside_the_encoding_stay_readable() -> None:
    payload = change("I", "cafE", {"id": "\\E"}).replace(b"E", b"\xe9")
    known = {"public.caf\\xe9": [column("id", "text")]}
    assert one("wal2json", payload, keys=known) == (
        "rows",
        "public.caf\\xe9",
        1,
        None,
    )
    assert one("wal2json", message("E").replace(b"E", b"\xff")) == ("message", "\\xff")


def test_an_object_written_in_another_way_is_understood() -> None:
    assert one("wal2json", b'{ "table": "t", "schema": "public", "action": "I" }') == (
        "rows",
        "public.t",
        1,
        None,
    )


DEEP = b"[" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b'{"action":"B"}',
        b'{"action":"B","xid":"x"}',
        b'{"action":"B","xid":-1}',
        b'{"action":"B","xid":1.5}',
        b'{"action":"B","xid":12345678901}',
        b'{"action":"B","xid":"\\u0661"}',
        b'{"action":"B","xid":%b}' % (b"9" * 5000),
        b'{"action":"B","xid":%b}' % (b"9" * 500_000),
        b'{"action":"C"}',
        b'{"action":"C","timestamp":1}',
        b'{"action":"C","timestamp":"infinity"}',
        b'{"action":"C","timestamp":NaN}',
        b'{"action":"C","timestamp":[%b]}' % (b"[" * 900 + b"]" * 900),
        b'{"action":"X"}',
        b'{"action":[]}',
        b'{"action":{"a":1}}',
        b'{"action":%b}' % (b"[" * 900 + b"]" * 900),
        b'{"action":%b}' % (b'{"a":' * 900 + b"1" + b"}" * 900),
        b'{"action":"I"}',
        b'{"action":"I","schema":null,"table":["t"]}',
        b'{"action":"T","schema":"public"}',
        b'{"action":"I","schema":"public","table":"\\ud800"}',
        b'{"action":"T","schema":"public","table":"\\udfff\\ud800"}',
        message("x").replace(b'"x"', b'"\\uD83D"'),
        b'{"action":"I","schema":"public","table":"t","columns":{}}',
        b'{"action":"I","schema":"public","table":"t","columns":[',
        b'{"action":"I","schema":"public","table":"t","columns":[{"name":"id","value":"\\ud800"}]}',
        DEEP,
        DEEP_OBJECT,
        b'{"action":"I","schema":"public","table":"t","columns":' + DEEP,
        b'{"action":"I","schema":"' + b"\\" * 200_001,
        b'{"action":"I",' + b'"schema":"x",' * 20_000,
        b'{"action":"I"' + b" " * 200_000,
    ],
)
def test_what_wal2json_cannot_have_written_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode("wal2json", [payload])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [100, 900, 990, 2000])
def test_a_deep_value_of_a_key_is_no_key_and_no_crash(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    payload = change("I", "t", {"id": 1}).replace(b'"value":1', b'"value":' + deep)
    try:
        assert one("wal2json", payload) == ("rows", "public.t", 1, None)
    except DecodeError:
        assert depth >= 900


def test_half_a_character_in_no_key_is_refused_too() -> None:
    whole = change("I", "t", {"id": 1, "x": "A"}).replace(b'"A"', b'"\\ud83d\\ude00"')
    assert one("wal2json", whole)[3] == [(1,)]


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal2json, "MAX_TABLES", 10)
    decoder, _ = make("wal2json")
    assert isinstance(decoder, Wal2Json)
    for number in range(100):
        decoder.scan(backend.xlog(change("I", f"t{number}", {"id": 1})), 0)
        assert len(decoder._tables) <= 10  # noqa: SLF001 - it is bounded
    decoder.forget_tables()
    decoder.scan(backend.xlog(change("I", "x" * MAX_NAME, {"id": 1})), 0)
    assert decoder._tables == {}  # noqa: SLF001 - it is bounded


@given(st.sampled_from(TRANSACTION), st.data())
def test_mutated_objects_are_read_or_refused(payload: bytes, data: st.DataObject) -> None:
    changed = bytearray(payload)
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    decoder, _ = make("wal2json")
    for read in (lambda raw: decoder.scan(backend.xlog(raw), 0), decoder.take_prefix):
        with contextlib.suppress(DecodeError):
            read(bytes(changed))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["action", "schema", "table", "columns", "identity", "name", "value",
                             "xid", "timestamp", "prefix", "content", "transactional"]) | st.text(),
            inner | st.sampled_from(["B", "C", "I", "U", "D", "T", "M", "public", "t", "id"]),
        ),
    )
)  # fmt: skip
def test_any_json_is_read_or_refused(value: Any) -> None:
    for ascii_only in (True, False):
        payload = dump(value, ascii_only=ascii_only).encode("utf-8", "surrogatepass")
        decoder, _ = make("wal2json")
        with contextlib.suppress(DecodeError):
            decoder.scan(backend.xlog(payload), 0)


def test_the_options_carry_the_table_list_in_wal2jsons_escaping() -> None:
    assert "add-tables" not in Wal2Json.start_options(DecoderOptions(), 150020)
    tables = ["public.t", "*.t", "a.*", "s p.\"c,om*m'a\\"]
    chosen = Wal2Json.start_options(DecoderOptions(tables=tables), 150020)
    assert chosen["add-tables"] == ("public.t,*.t,a.*," + "s\\ p." + "\\\"c\\,om\\*m\\'a\\\\")
    assert chosen["format-version"] == "2"


def test_a_name_of_several_dots_is_asked_for_under_every_schema_it_may_mean() -> None:
    chosen = Wal2Json.start_options(DecoderOptions(tables=["a.b.c"]), 150020)
    assert chosen["add-tables"] == "a.b\\.c,a\\.b.c"
