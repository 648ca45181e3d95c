from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import ProtocolError
from django_pgnudge.wire import LSN


@given(st.integers(0, (1 << 64) - 1))
def test_text_and_position_are_the_same_thing(value: int) -> None:
    assert LSN.parse(str(LSN(value))) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0/0", 0),
        ("0/1", 1),
        ("1/0", 1 << 32),
        ("16/B374D848", 0x16B374D848),
        ("ffffffff/FFFFFFFF", (1 << 64) - 1),
        ("00000001/0000000a", (1 << 32) + 10),
    ],
)
def test_postgres_text_is_read(text: str, value: int) -> None:
    assert LSN.parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "/", "0/", "/0", "0", "0/0/0", "123456789/0", "0/123456789", "-1/0", "0x1/0", " 0/0",
     "0/0\n", "g/0", "1_0/0", "\uff11/0"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="not an LSN"):
        LSN.parse(text)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_position_has_64_bits(value: int) -> None:
    with pytest.raises(ProtocolError, match="64-bit"):
        LSN(value)


def test_positions_order_across_the_slash() -> None:
    texts = ["0/2", "0/A", "0/10", "0/FFFFFFFF", "1/0", "A/0", "10/0"]
    assert [str(lsn) for lsn in sorted(map(LSN.parse, reversed(texts)))] == texts


def test_it_is_shown_as_postgres_shows_it() -> None:
    assert repr(LSN(0x16B374D848)) == "LSN('16/B374D848')"
    assert str(LSN()) == "0/0"
