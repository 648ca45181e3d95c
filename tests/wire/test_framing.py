from __future__ import annotations

import itertools
from struct import pack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import ProtocolError
from django_pgnudge.wire import framing
from django_pgnudge.wire.framing import MAX_COPY_DATA, MAX_MESSAGE, Framer

from . import backend

if TYPE_CHECKING:
    from collections.abc import Iterable

MESSAGES = [
    (b"R", b"\0\0\0\0"),
    (b"Z", b"I"),
    (b"d", b"x" * 300),
    (b"c", b""),
    (b"D", b"\0\1" + b"\0" * 70),
    (b"d", b"d\0\0\0\4"),
]
BYTES = b"".join(backend.message(kind, body) for kind, body in MESSAGES)


def drain(framer: Framer) -> list[tuple[bytes, bytes]]:
    return list(iter(framer.next_message, None))


def collect(chunks: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    framer = Framer()
    found = []
    for chunk in chunks:
        if framer.receive(chunk):
            found += drain(framer)
    assert framer.pending == 0
    return found


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def test_messages_come_out_of_one_chunk() -> None:
    assert collect([BYTES]) == MESSAGES


def test_messages_come_out_byte_by_byte() -> None:
    assert collect(BYTES[place : place + 1] for place in range(len(BYTES))) == MESSAGES


@given(st.lists(st.integers(0, len(BYTES)), max_size=20))
def test_messages_come_out_of_any_chunks(cuts: list[int]) -> None:
    assert collect(split(BYTES, cuts)) == MESSAGES


def test_receive_is_silent_until_the_message_it_waits_for_is_whole() -> None:
    framer = Framer()
    whole = backend.message(b"D", b"x" * 100)
    assert framer.receive(whole[:50])
    assert framer.next_message() is None
    assert not framer.receive(whole[50:80])
    assert not framer.receive(b"")
    assert framer.pending == 80
    assert framer.receive(whole[80:])
    assert framer.next_message() == (b"D", b"x" * 100)


def test_a_long_message_in_small_pieces_is_joined_once() -> None:
    framer = Framer()
    framer.receive(backend.message(b"D", b"x" * 1_000_000)[:5])
    assert framer.next_message() is None
    joined = [framer.receive(b"x" * 1000) for _ in range(1000)]
    assert joined == [False] * 999 + [True]


def test_a_caller_may_take_messages_itself() -> None:
    framer = Framer()
    framer.receive(BYTES + b"Z")
    framer.pos += 1 + 8
    assert drain(framer) == MESSAGES[1:]
    assert framer.pending == 1


@pytest.mark.parametrize(
    "start", [b"H", b"x", b"\0", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03"]
)
def test_what_is_not_postgres_is_named_at_its_first_byte_or_length(start: bytes) -> None:
    framer = Framer()
    framer.receive(start if start != b"H" else b"HTTP/")
    with pytest.raises(ProtocolError):
        framer.next_message()


@pytest.mark.parametrize("kind", [bytes([value]) for value in range(256)])
def test_every_type_byte_is_known_or_refused(kind: bytes) -> None:
    framer = Framer()
    framer.receive(kind + pack("!I", 4))
    if kind in b"RKSZENTDCIAWGHdcv":
        assert framer.next_message() == (kind, b"")
    else:
        with pytest.raises(ProtocolError, match="does not speak the PostgreSQL protocol"):
            framer.next_message()


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_length_counts_itself(length: int) -> None:
    framer = Framer()
    framer.receive(b"Z" + pack("!I", length))
    with pytest.raises(ProtocolError, match="impossible length"):
        framer.next_message()


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (b"Z", MAX_MESSAGE + 1),
        (b"S", 0x7FFFFFFF),
        (b"D", 0xFFFFFFFF),
        (b"d", MAX_COPY_DATA + 1),
        (b"d", 0xFFFFFFFF),
        (b"d", MAX_MESSAGE + 1),
    ],
)
def test_a_message_longer_than_can_be_held_is_refused_by_its_header(
    kind: bytes, length: int
) -> None:
    framer = Framer()
    framer.receive(kind + pack("!I", length))
    with pytest.raises(ProtocolError, match=str(length)):
        framer.next_message()


def test_a_message_of_exactly_the_limit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE", 100)
    framer = Framer()
    framer.receive(backend.message(b"D", b"x" * 96))
    assert framer.next_message() == (b"D", b"x" * 96)
    framer.receive(backend.message(b"D", b"x" * 97))
    with pytest.raises(ProtocolError):
        framer.next_message()


def take_all(chunks: Iterable[bytes], prefix: int) -> list[bytes | tuple[bytes, bytes]]:
    framer = Framer()
    found: list[bytes | tuple[bytes, bytes]] = []
    for chunk in chunks:
        if not framer.receive(chunk):
            continue
        while True:
            item = framer.next_oversized(prefix) if framer.oversized else framer.next_message()
            if item is None:
                break
            found.append(item)
    assert framer.pending == 0
    return found


@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(101, 600))
def test_an_oversized_message_gives_its_prefix_and_is_skipped(cuts: list[int], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "MAX_MESSAGE", 100)
        body = bytes(range(1, 51)) + b"x" * (size - 50)
        data = backend.message(b"Z", b"I") + backend.message(b"d", body) * 2
        data += backend.message(b"d", b"behind") + backend.message(b"c")
        expected = [(b"Z", b"I"), body[:50], body[:50], (b"d", b"behind"), (b"c", b"")]
        assert take_all(split(data, cuts), 50) == expected
        each = (data[place : place + 1] for place in range(len(data)))
        assert take_all(each, 50) == expected


def test_the_rest_of_an_oversized_message_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE", 100)
    framer = Framer()
    framer.receive(backend.message(b"d", b"x" * 10_000_000)[:60])
    assert framer.next_oversized(50) == b"x" * 50
    for _ in range(100):
        assert not framer.receive(b"x" * 90_000)
        assert framer.pending == 0


@pytest.mark.parametrize("kind", [b"D", b"N"])
def test_only_a_stream_message_may_be_oversized(
    kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE", 100)
    framer = Framer()
    framer.receive(backend.message(kind, b"x" * 200))
    with pytest.raises(ProtocolError, match="204"):
        assert not framer.oversized
