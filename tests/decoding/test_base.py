from __future__ import annotations

import codecs

import pytest

from django_pgnudge.decoding import (
    DECODERS,
    KeyColumn,
    TableFilter,
    base,
    python_codec,
    read_value,
)
from django_pgnudge.decoding.base import unix_time
from django_pgnudge.errors import ConfigError, DecodeError
from tests.decoding import pgoutput_messages as pg
from tests.decoding.columns import column, domain
from tests.decoding.recording import make
from tests.wire import backend


@pytest.mark.parametrize(
    ("tables", "wanted", "unwanted"),
    [
        (None, ["a.b", "x.y.z"], []),
        (["a.b"], ["a.b"], ["a.c", "b.b", "A.b"]),
        (["a.*"], ["a.b", "a.c"], ["b.a"]),
        (["*.b"], ["a.b", "c.b"], ["b.a"]),
        (["*.*"], ["a.b"], []),
        (["a.b.c"], [("a", "b.c")], [("a", "b")]),
        (["a.b", "*.c"], ["a.b", "x.c"], ["x.b"]),
        ([], [], ["a.b"]),
    ],
)
def test_a_filter_takes_names_and_stars(
    tables: list[str] | None,
    wanted: list[str | tuple[str, str]],
    unwanted: list[str | tuple[str, str]],
) -> None:
    accepts = TableFilter(tables)
    for expected, names in ((True, wanted), (False, unwanted)):
        for name in names:
            schema, table = name.split(".", 1) if isinstance(name, str) else name
            assert accepts(schema, table) is expected, name


@pytest.mark.parametrize("bad", ["", "a", ".", "a.", ".b"])
def test_a_filter_names_the_table_it_cannot_read(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"tables: .* is not of the form 'schema\.table'"):
        TableFilter(["ok.ok", bad])


@pytest.mark.parametrize(
    ("text", "type_name", "value"),
    [
        ("42", "int4", 42),
        ("-9223372036854775808", "int8", -9223372036854775808),
        ("4294967295", "oid", 4294967295),
        ("t", "bool", True),
        ("true", "bool", True),
        ("f", "bool", False),
        ("false", "bool", False),
        ("42", "text", "42"),
        ("1.50", "numeric", "1.50"),
    ],
)
def test_a_key_has_the_type_of_its_column(text: str, type_name: str, value: object) -> None:
    found = read_value(text, column("id", type_name))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "x", "1.5", "9" * 5000, "NaN"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="not a whole number"):
        read_value(text, column("id", "int8"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01 00:00:00+00", 0.0),
        ("2000-01-01 00:00:00.5+00", 946_684_800.5),
        ("2000-01-01 00:00:00.25+00", 946_684_800.25),
        ("2000-01-01 00:00:00.123+00", 946_684_800.123),
        ("2000-01-01 00:00:00.1234+00", 946_684_800.1234),
        ("2000-01-01 00:00:00.12345+00", 946_684_800.12345),
        ("2000-01-01 00:00:00.123456+00", 946_684_800.123456),
        ("2000-01-01 05:30:00+05:30", 946_684_800.0),
        ("1999-12-31 21:00:00-03", 946_684_800.0),
        ("0001-01-01 00:00:00+15:59:59", -62135654399.0),
    ],
)
def test_a_timestamp_is_read(text: str, seconds: float) -> None:
    assert unix_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "infinity", "-infinity", "10000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC",
     "2000-01-01 00:00:00", "2000-13-01 00:00:00+00", "Sat Jan 01 00:00:00 2000 UTC",
     "2000-01-01 00:00:00+99", "x" * 1000],
)  # fmt: skip
def test_a_timestamp_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="timestamp"):
        unix_time(text)


# pg_encoding_to_char of every encoding a database can have.
SERVER_ENCODINGS = [
    "SQL_ASCII", "EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004", "UTF8",
    "MULE_INTERNAL", "LATIN1", "LATIN2", "LATIN3", "LATIN4", "LATIN5", "LATIN6", "LATIN7",
    "LATIN8", "LATIN9", "LATIN10", "WIN1256", "WIN1258", "WIN866", "WIN874", "KOI8R", "WIN1251",
    "WIN1252", "ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8", "WIN1250", "WIN1253",
    "WIN1254", "WIN1255", "WIN1257", "KOI8U",
]  # fmt: skip


@pytest.mark.parametrize("encoding", SERVER_ENCODINGS)
def test_every_database_encoding_has_a_codec_that_keeps_ascii(encoding: str) -> None:
    name = codecs.lookup(python_codec(encoding)).name
    assert "a\"'\\:{}".encode(name) == b"a\"'\\:{}"
    if encoding not in ("SQL_ASCII", "EUC_TW", "MULE_INTERNAL", "UTF8"):
        assert name != "utf-8"


def test_the_codecs_are_the_ones_of_the_names() -> None:
    known = {"LATIN1": "\xe9", "LATIN2": "\u0142", "LATIN9": "\u20ac", "WIN1251": "\u0436",
             "KOI8R": "\u0436", "EUC_JP": "\u65e5", "EUC_KR": "\ud55c", "LATIN5": "\u011f",
             "ISO_8859_5": "\u0436", "WIN866": "\u0436", "WIN874": "\u0e01"}  # fmt: skip
    raw = {"LATIN1": b"\xe9", "LATIN2": b"\xb3", "LATIN9": b"\xa4", "WIN1251": b"\xe6",
           "KOI8R": b"\xd6", "EUC_JP": b"\xc6\xfc", "EUC_KR": b"\xc7\xd1", "LATIN5": b"\xf0",
           "ISO_8859_5": b"\xd6", "WIN866": b"\xa6", "WIN874": b"\xa1"}  # fmt: skip
    assert {name: raw[name].decode(python_codec(name)) for name in raw} == known


@pytest.mark.parametrize("plugin", DECODERS)
def test_a_scan_stops_at_what_is_not_the_plugins(plugin: str) -> None:
    decoder, recorder = make(plugin)
    for data in (
        b"",
        b"d\0",
        backend.keepalive(1),
        backend.message(b"Z", b"I" * 40),
        backend.xlog(b""),
        backend.xlog(b"x" * 50)[:-1],
        b"d" + (1 << 30).to_bytes(4, "big") + b"w" + b"\0" * 40,
    ):
        assert decoder.scan(data, 0) == 0
        assert decoder.scan(b"junk" + data, 4) == 4
    assert recorder.log == []
    assert decoder.lsn == 0


ROWS = {
    "pgoutput": [pg.relation(1, "t", ["id"]), pg.insert(1, "7")],
    "wal2json": [
        b'{"action":"I","schema":"public","table":"t","columns":[{"name":"id","value":7}]}'
    ],
    "test_decoding": [b"table public.t: INSERT: id[integer]:7"],
}


@pytest.mark.parametrize("plugin", DECODERS)
def test_forgotten_keys_are_not_told_until_they_are_set_again(plugin: str) -> None:
    decoder, recorder = make(plugin)
    keys = decoder.primary_keys
    for known in (True, False, True):
        if known:
            decoder.set_primary_keys(keys)
        else:
            decoder.forget_keys()
        decoder.scan(backend.stream(ROWS[plugin]), 0)
        assert recorder.log.pop()[3] == ([(7,)] if known else None)
        assert decoder.stale_keys == (set() if known else {"public.t"})


@pytest.mark.parametrize("plugin", DECODERS)
@pytest.mark.parametrize(
    "known",
    [column("id", "int8"), column("id", "text"), domain("id", "int4"), column("id", "bool")],
)
def test_a_column_of_another_type_than_the_known_one_tells_no_key(
    plugin: str, known: KeyColumn
) -> None:
    if plugin == "wal2json" and known.type == "int8":
        pytest.skip("wal2json writes every whole number alike")
    decoder, recorder = make(plugin, keys={"public.t": [known]})
    decoder.scan(backend.stream(ROWS[plugin]), 0)
    assert recorder.log == [("rows", "public.t", 1, None)]
    assert decoder.stale_keys == {"public.t"}


def test_a_column_of_another_length_than_the_known_one_tells_no_key() -> None:
    relation = pg.relation(1, "t", ["id"], types={"id": (25, 9)})
    for typmod, keys in ((9, [("7",)]), (-1, None)):
        known = column("id", "text")._replace(own_typmod=typmod)
        decoder, recorder = make("pgoutput", keys={"public.t": [known]})
        decoder.scan(backend.stream([relation, pg.insert(1, "7")]), 0)
        assert recorder.log == [("rows", "public.t", 1, keys)]


@pytest.mark.parametrize(
    ("plugin", "row", "type_name", "key"),
    [
        ("wal2json", b'"7"', "int4", 7),
        ("wal2json", b'"t"', "bool", True),
        ("wal2json", b'"\\\\x01"', "bytea", "\\x01"),
        ("test_decoding", b"'7'", "int4", 7),
        ("test_decoding", b"'f'", "bool", False),
    ],
)
def test_a_domain_is_written_as_text_and_read_as_its_base_type(
    plugin: str, row: bytes, type_name: str, key: object
) -> None:
    line = {
        "wal2json": b'{"action":"I","schema":"public","table":"t",'
        b'"columns":[{"name":"id","value":%b}]}',
        "test_decoding": b"table public.t: INSERT: id[public.domain]:%b",
    }[plugin] % row
    decoder, recorder = make(plugin, keys={"public.t": [domain("id", type_name)]})
    decoder.scan(backend.xlog(line), 0)
    assert recorder.log == [("rows", "public.t", 1, [(key,)])]
    assert type(recorder.log[0][3][0][0]) is type(key)


@pytest.mark.parametrize("plugin", DECODERS)
@pytest.mark.parametrize("payload", [b"?", b"\0", b"{", b"[]", b"table", b"I", b"\xff" * 40])
def test_what_the_plugin_cannot_have_written_is_refused(plugin: str, payload: bytes) -> None:
    decoder, _ = make(plugin)
    with pytest.raises(DecodeError):
        decoder.scan(backend.xlog(payload), 0)


@pytest.mark.parametrize("plugin", DECODERS)
def test_the_prefix_of_something_unknown_is_refused(plugin: str) -> None:
    decoder, _ = make(plugin)
    with pytest.raises(DecodeError):
        decoder.take_prefix(b"?" * 1000)


def test_tables_without_known_keys_are_noted_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "MAX_TABLES", 10)
    decoder, _ = make("test_decoding", keys={})
    for number in range(50):
        assert decoder.key_columns(f"public.t{number}") is None
    assert len(decoder.stale_keys) == 10
    decoder.set_primary_keys({"public.t": [column("id", "int4")]})
    assert decoder.stale_keys == set()
    assert decoder.key_columns("public.t") == [column("id", "int4")]
