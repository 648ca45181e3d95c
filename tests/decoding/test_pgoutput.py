from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.decoding import DecoderOptions, PgOutput, pgoutput
from django_pgnudge.decoding.base import MAX_KEY_TEXT
from django_pgnudge.epoch import POSTGRES_EPOCH
from django_pgnudge.errors import ConfigError, DecodeError
from tests.decoding import pgoutput_messages as pg
from tests.decoding.columns import column
from tests.decoding.recording import decode, decode_in_chunks, make
from tests.wire import backend
from tests.wire.test_framing import split

T = pg.relation(1, "t", ["id", "name"])
PAIR = pg.relation(2, "pair", ["a", "x", "b"], ["a", "b"])
TRANSACTION = [
    pg.begin(4_294_967_295),
    pg.origin(),
    T,
    pg.insert(1, "1", "a"),
    pg.insert(1, "2", None),
    pg.type_name(),
    PAIR,
    pg.delete(2, "7", None, "é"),
    pg.message(b"prices"),
    pg.truncate(1, 2, options=3),
    pg.commit(0x2000),
]
TOLD = [
    ("begin", 4_294_967_295),
    ("rows", "public.t", 2, [(1,), (2,)]),
    ("rows", "public.pair", 1, [("é", 7)]),
    ("message", "prices"),
    ("rows", "public.t", 1, None),
    ("rows", "public.pair", 1, None),
    ("commit", 0x2000, POSTGRES_EPOCH + 1.5),
]


def rows(*payloads: bytes, **options: Any) -> list[tuple[Any, ...]]:
    return decode("pgoutput", payloads, **options)


def test_every_message_is_read() -> None:
    assert rows(*TRANSACTION) == TOLD


def test_the_position_is_the_end_of_the_newest_message() -> None:
    decoder, _ = make("pgoutput")
    decoder.scan(backend.stream(TRANSACTION, start=0x5000), 0)
    assert decoder.lsn == 0x5000 + 8 * len(TRANSACTION)
    decoder.scan(backend.xlog(pg.origin(), 0, 0), 0)
    assert decoder.lsn == 0x5000 + 8 * len(TRANSACTION)


STREAMED = [
    pg.stream_start(800),
    pg.origin(),
    pg.streamed(T),
    pg.streamed(pg.insert(1, "1", "a")),
    pg.streamed(pg.insert(1, "2", None), 801),
    pg.streamed(pg.insert(1, "3", None), 801),
    pg.streamed(pg.type_name(), 801),
    pg.streamed(PAIR, 801),
    pg.streamed(pg.delete(2, "7", None, "é"), 801),
    pg.streamed(pg.message(b"prices")),
    pg.streamed(pg.truncate(1, 2), 802),
    pg.stream_stop(),
    pg.begin(900),
    pg.insert(1, "8", None),
    pg.commit(),
    pg.stream_start(900),
    pg.streamed(pg.insert(1, "9", None), 900),
    pg.stream_stop(),
    pg.stream_abort(800, 801),
    pg.stream_abort(900),
    pg.stream_commit(800, 0x3000),
]
STREAMED_TOLD = [
    ("stream_start", 800),
    ("rows", "public.t", 1, [(1,)]),
    ("stream_made_by", 801),
    ("rows", "public.t", 2, [(2,), (3,)]),
    ("rows", "public.pair", 1, [("é", 7)]),
    ("stream_made_by", 800),
    ("message", "prices"),
    ("stream_made_by", 802),
    ("rows", "public.t", 1, None),
    ("rows", "public.pair", 1, None),
    ("stream_stop",),
    ("begin", 900),
    ("rows", "public.t", 1, [(8,)]),
    ("commit", 0x2000, POSTGRES_EPOCH + 1.5),
    ("stream_start", 900),
    ("rows", "public.t", 1, [(9,)]),
    ("stream_stop",),
    ("stream_abort", 800, 801),
    ("stream_abort", 900, 900),
    ("stream_commit", 800, 0x3000, POSTGRES_EPOCH + 1.5),
]


def test_streamed_transactions_are_told_by_who_made_what() -> None:
    assert rows(*STREAMED) == STREAMED_TOLD


def test_streamed_transactions_byte_by_byte_tell_the_same() -> None:
    data = backend.stream(STREAMED)
    log = decode_in_chunks("pgoutput", split(data, range(len(data)))).log
    merged: list[tuple[Any, ...]] = []
    for told in log:
        before = merged[-1] if merged else ("",)
        if told[0] == before[0] == "rows" and told[1] == before[1] and told[3] and before[3]:
            merged[-1] = ("rows", told[1], before[2] + told[2], before[3] + told[3])
        else:
            merged.append(told)
    assert merged == STREAMED_TOLD


def test_a_row_too_long_to_hold_in_a_block_is_told_by_who_made_it() -> None:
    decoder, recorder = make("pgoutput")
    decoder.scan(backend.stream([pg.stream_start(800), pg.streamed(T)]), 0)
    decoder.take_prefix(pg.streamed(pg.insert(1, "1", "x" * 999), 805)[:500])
    decoder.take_prefix(pg.streamed(pg.message(b"x" * 999, prefix="other"), 806)[:500])
    decoder.scan(backend.stream([pg.streamed(pg.insert(1, "2", None), 805)]), 0)
    assert recorder.log == [
        ("stream_start", 800),
        ("stream_made_by", 805),
        ("rows", "public.t", 1, None),
        ("rows", "public.t", 1, [(2,)]),
    ]


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_any_chunks_tell_the_same(cuts: list[int]) -> None:
    whole = decode_in_chunks("pgoutput", [backend.stream(TRANSACTION)])
    pieces = decode_in_chunks("pgoutput", split(backend.stream(TRANSACTION), cuts))
    assert pieces.merged() == whole.merged()


def test_byte_by_byte_tells_the_same() -> None:
    data = backend.stream(TRANSACTION)
    pieces = decode_in_chunks("pgoutput", split(data, range(len(data))))
    assert pieces.merged() == decode_in_chunks("pgoutput", [data]).merged()


def test_an_update_gives_the_old_key_and_the_new_one() -> None:
    assert rows(T, pg.update(1, ["5", "x"])) == [("rows", "public.t", 1, [(5,)])]
    assert rows(T, pg.update(1, ["6", "x"], ["5", None])) == [("rows", "public.t", 1, [(5,), (6,)])]


def test_a_full_identity_gives_the_old_row() -> None:
    full = pg.relation(1, "t", ["id", "name"], ["id", "name"], kind=b"f")
    told = rows(full, pg.update(1, ["6", "y"], ["5", "x"], b"O"), pg.delete(1, "6", "y", mark=b"O"))
    assert told == [("rows", "public.t", 2, [(5,), (6,), (6,)])]


def test_a_key_outside_the_identity_is_not_collected() -> None:
    other = pg.relation(1, "t", ["id", "name"], ["name"], kind=b"i")
    assert rows(other, pg.insert(1, "1", "a")) == [("rows", "public.t", 1, None)]
    nothing = pg.relation(1, "t", ["id", "name"], [], kind=b"n")
    assert rows(nothing, pg.insert(1, "1", "a")) == [("rows", "public.t", 1, None)]


def test_an_unchanged_or_missing_key_means_any_row() -> None:
    for value in (pg.UNCHANGED, None):
        assert rows(T, pg.update(1, [value, "x"])) == [("rows", "public.t", 1, None)]


def test_a_key_too_long_means_any_row() -> None:
    table = pg.relation(1, "pair", ["b", "a"], ["a", "b"])
    assert rows(table, pg.insert(1, "x" * MAX_KEY_TEXT, "1"))[0][3] is not None
    assert rows(table, pg.insert(1, "x" * (MAX_KEY_TEXT + 1), "1"))[0][3] is None


@pytest.mark.parametrize(
    ("table", "column", "text", "key"),
    [
        ("flag", "on", "t", True),
        ("flag", "on", "f", False),
        ("u", "id", "0b4e8c2a-0000-4000-8000-000000000001", None),
        ("n", "id", "1.50", None),
        ("b", "id", "\\x00ff", None),
    ],
)
def test_keys_of_every_type(table: str, column: str, text: str, key: object) -> None:
    relation = pg.relation(3, table, [column])
    expected = [(text if key is None else key,)]
    assert rows(relation, pg.insert(3, text)) == [("rows", f"public.{table}", 1, expected)]


def test_a_binary_column_is_no_key_but_no_error() -> None:
    row = pack("!cIcHcI", b"I", 1, b"N", 2, b"b", 4) + b"\0\0\0\1" + b"n"
    assert rows(T, row) == [("rows", "public.t", 1, None)]


def test_past_max_keys_any_row_is_meant() -> None:
    three = [pg.insert(1, str(number), None) for number in range(3)]
    assert rows(T, *three, max_keys=3) == [("rows", "public.t", 3, [(0,), (1,), (2,)])]
    many = [pg.insert(1, str(number), None) for number in range(30)]
    assert rows(T, *many, max_keys=3) == [("rows", "public.t", 30, None)]


def test_keys_are_collected_where_they_are_wanted() -> None:
    both = [T, pg.insert(1, "1", None), PAIR, pg.insert(2, "1", None, "b")]
    assert rows(*both, wants_keys=lambda payload: payload == "public.pair") == [
        ("rows", "public.t", 1, None),
        ("rows", "public.pair", 1, [("b", 1)]),
    ]


def test_tables_not_asked_for_are_left_out() -> None:
    both = [pg.begin(), T, PAIR, pg.insert(1, "1", None), pg.insert(2, "1", None, "b"),
            pg.insert(1, "2", None), pg.truncate(1, 2)]  # fmt: skip
    assert rows(*both, tables=["*.t"])[1:] == [
        ("rows", "public.t", 1, [(1,)]),
        ("rows", "public.t", 1, [(2,)]),
        ("rows", "public.t", 1, None),
    ]


@pytest.mark.parametrize(
    "name", ['a"b', "a.b", "a,b", "a: INSERT: b", "a\nb", "Größe 日本", "'", "\\"]
)
def test_names_are_plain(name: str) -> None:
    table = pg.relation(9, name, ["id"], schema=name)
    assert rows(table, pg.insert(9, "1")) == [("rows", f"{name}.{name}", 1, None)]


def test_an_empty_schema_is_pg_catalog() -> None:
    assert rows(pg.relation(9, "x", ["id"], schema=""), pg.insert(9, "1")) == [
        ("rows", "pg_catalog.x", 1, None)
    ]


def test_a_relation_announced_again_is_as_announced() -> None:
    renamed = pg.relation(1, "pair", ["b", "id", "a"], ["a", "b"])
    assert rows(T, pg.insert(1, "1", None), renamed, pg.insert(1, "b", "9", "3")) == [
        ("rows", "public.t", 1, [(1,)]),
        ("rows", "public.pair", 1, [("b", 3)]),
    ]


def test_refreshed_primary_keys_hold_from_the_next_message_on() -> None:
    decoder, recorder = make("pgoutput", keys={})
    decoder.scan(backend.stream([T, pg.insert(1, "1", None)]), 0)
    assert decoder.stale_keys == {"public.t"}
    decoder.set_primary_keys({"public.t": [column("id", "int4")]})
    decoder.scan(backend.stream([pg.insert(1, "1", None)]), 0)
    assert [told[3] for told in recorder.log] == [None, [(1,)]]


def test_only_transactional_messages_of_our_prefix_nudge() -> None:
    assert rows(pg.message(b"x", flags=0), pg.message(b"x", prefix="other")) == []
    assert rows(pg.message("Größe".encode("latin-1")), encoding="iso8859-1") == [
        ("message", "Größe")
    ]
    assert rows(pg.message(b"\xff\0")) == [("message", "\\xff\0")]


def test_a_row_too_long_to_hold_still_nudges() -> None:
    decoder, recorder = make("pgoutput")
    decoder.scan(backend.stream([T]), 0)
    for row in (pg.insert(1, "1", "x" * 999), pg.update(1, ["1", "x" * 999])):
        decoder.take_prefix(row[:500])
    assert recorder.log == [("rows", "public.t", 1, None)] * 2
    decoder.take_prefix(pg.message(b"x" * 999, prefix="other")[:500])
    assert len(recorder.log) == 2


def test_a_row_too_long_of_a_table_not_asked_for_does_not() -> None:
    decoder, recorder = make("pgoutput", tables=["public.other"])
    decoder.scan(backend.stream([T]), 0)
    decoder.take_prefix(pg.insert(1, "1", "x" * 999)[:500])
    assert recorder.log == []


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (pg.insert(99, "1"), "never announced"),
        (pg.truncate(99), "never announced"),
        (pg.insert(1, "1"), "not have the columns"),
        (pg.insert(1, "1", None, None), "not have the columns"),
        (pg.insert(1, "x", None), "not a whole number"),
        (pg.insert(2, "1", None, "abc")[:-1], "outside its message"),
        (pg.insert(2, "1", None, "abc") + b"Z", "tuple marked b'Z'"),
        (b"I\0\0\0\1N\0\2z", "column marked b'z'"),
        (b"I\0\0\0\1N\0\2", "column marked b''"),
        (b"I\0\0\0\1N\0\2t\xff\xff\xff\xff", "column marked b''"),
        (pg.begin()[:-1], "cut short"),
        (pg.begin() + b"x", "cut short"),
        (pg.commit()[:-1], "cut short"),
        (T[:8], "cut short"),
        (T[:-1], "does not end"),
        (T + b"x", "does not end"),
        (b"R\0\0\0\1", "cut short"),
        (pg.truncate(1)[:-1], "as many tables"),
        (pg.truncate(1) + b"x", "as many tables"),
        (pg.truncate(1)[:3], "cut short"),
        (pg.message(b"abc")[:-1], "the length it says"),
        (pg.message(b"abc") + b"x", "the length it says"),
        (pg.message(b"abc")[:12], "cut short"),
        (b"Z\0\0\0\1\1", "not known"),
        (pg.stream_start()[:-1], "cut short"),
        (pg.stream_stop() + b"x", "not known"),
        (pg.stream_commit()[:-1], "cut short"),
        (pg.stream_abort() + b"x", "cut short"),
        (b"I", "not known"),
    ],
)
def test_a_message_that_is_not_whole_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        rows(T, PAIR, payload)


def test_what_stands_behind_a_number_that_is_the_key_is_not_read() -> None:
    rest = pg.insert(1, "1", "abc")[:-1] + b"\xff"
    assert rows(T, rest) == [("rows", "public.t", 1, [(1,)])]


@given(st.lists(st.sampled_from(TRANSACTION), max_size=5), st.data())
def test_mutated_messages_are_read_or_refused(payloads: list[bytes], data: st.DataObject) -> None:
    decoder, _ = make("pgoutput")
    decoder.scan(backend.stream([T, PAIR]), 0)
    for payload in payloads:
        changed = bytearray(payload)
        for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=3)):
            changed[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(1, len(changed)))
        try:
            decoder.scan(backend.xlog(bytes(changed[:cut])), 0)
            decoder.take_prefix(bytes(changed))
        except DecodeError:
            return


def test_announced_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgoutput, "MAX_RELATIONS_SIZE", 10_000)
    rows(*([T] * 2000))
    with pytest.raises(DecodeError, match="over 10000 bytes"):
        rows(*(pg.relation(oid, "t", ["id"]) for oid in range(2000)))


def test_the_options_name_the_publication() -> None:
    chosen = PgOutput.start_options(DecoderOptions(publication='a"b'), 150020)
    assert chosen == {
        "proto_version": "2",
        "streaming": "on",
        "publication_names": '"a""b"',
        "messages": "true",
    }
    assert PgOutput.start_options(DecoderOptions(publication="p"), 130000) == {
        "proto_version": "1",
        "publication_names": '"p"',
    }
    with pytest.raises(ConfigError, match="publication="):
        PgOutput.start_options(DecoderOptions(), 150020)
