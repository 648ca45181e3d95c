"""A primary key's columns, and how PostgreSQL writes their values.

Both the decoders, which read a key from the stream, and code that names a row use this table.

A type is supported only if a value has exactly one text, with any session settings. Not supported
are, for example, citext and char without a length (two texts can be one key), numeric without a
scale (1.0 and 1.00), floats, money, intervals and bytea (a setting changes the text), and enums (a
label can be renamed).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import DecodeError
from ..events import KeyValue

INTEGER_TYPES: Final = frozenset({"int2", "int4", "int8", "oid"})

_NUMBERS: Final = {
    "int2": "smallint", "int4": "integer", "int8": "bigint", "oid": "oid",
    "float4": "real", "float8": "double precision", "numeric": "numeric",
}  # fmt: skip

_SIZES: Final = {"int2": 1 << 15, "int4": 1 << 31, "int8": 1 << 63}

_HEADER: Final = 4
"""VARHDRSZ, the size of a varlena header, which a ``typmod`` adds to a length or precision."""


class KeyColumn(NamedTuple):
    """A column of a primary key, as described in the catalogs."""

    name: str
    type: str
    """``pg_type.typname`` of its base type, through any number of domains. "" for a type that is
    not PostgreSQL's own, because such a type may have any name."""
    typmod: int = -1
    """The length, or precision and scale, of the base type; -1 without."""
    deterministic: bool = True
    """Whether its collation treats two texts as equal only if their bytes are equal."""
    printed: str = ""
    """``format_type`` of its own type, which may be a domain, without the ``typmod``."""
    own_type: int = 0
    """The OID of its own type."""
    own_typmod: int = -1
    """Its own ``atttypmod``: -1 for a domain."""

    @property
    def is_number(self) -> bool:
        """Whether textual plugins write it as a number, without quotes; False for a domain."""
        return _NUMBERS.get(self.type) == self.printed

    @property
    def is_bool(self) -> bool:
        """Whether wal2json writes it as true or false; False for a domain."""
        return self.type == "bool" and self.printed == "boolean"

    @property
    def is_bytea(self) -> bool:
        """Whether wal2json leaves out its prefix ``\\x``; False for a domain."""
        return self.type == "bytea" and self.printed == "bytea"


PrimaryKeys: TypeAlias = Mapping[str, Sequence[KeyColumn]]
"""The primary-key columns of each payload, in index order."""


def read_value(text: str, column: KeyColumn) -> KeyValue:
    """The value of a primary-key column from PostgreSQL's text."""
    if column.type in INTEGER_TYPES:
        try:
            return int(text)
        except ValueError:
            raise DecodeError(f"{text[:40]!r} is not a whole number") from None
    if column.type == "bool":
        return text in ("t", "true")
    return text


def write_value(column: KeyColumn, value: object) -> KeyValue | None:
    """What `read_value` returns for this value in the stream; None if that is not certain."""
    write = _WRITERS.get(column.type)
    if write is None:
        return None
    with suppress(ValueError, ArithmeticError, InvalidOperation):
        return write(column, value)
    return None


def _whole(column: KeyColumn, value: object) -> int | None:
    if isinstance(value, str) and str.isascii(value):
        # PostgreSQL also reads "07" and "+7" as 7. Only the text that it prints is accepted here.
        text = str.__str__(value)
        number = int(text)
        if str(number) != text:
            return None
    elif isinstance(value, int) or (isinstance(value, Decimal) and value == int(value)):
        number = int(value)
    else:
        return None
    if column.type == "oid":
        return number if 0 <= number < 1 << 32 else None
    size = _SIZES[column.type]
    return number if -size <= number < size else None


def _truth(column: KeyColumn, value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(column: KeyColumn, value: object) -> str | None:
    # A str enum's member is written as its str value, not as its own __str__ returns it.
    return str.__str__(value) if isinstance(value, str) and column.deterministic else None


def _padded(column: KeyColumn, value: object) -> str | None:
    """PostgreSQL prints char(n) with n characters and compares it without trailing spaces."""
    text = _text(column, value)
    length = column.typmod - _HEADER
    if text is None or length < 1 or len(text := text.rstrip(" ")) > length:
        return None
    return text.ljust(length)


def _uuid(column: KeyColumn, value: object) -> str | None:
    if isinstance(value, str):
        value = uuid.UUID(str.__str__(value))
    return str(value) if isinstance(value, uuid.UUID) else None


def _numeric(column: KeyColumn, value: object) -> str | None:
    """PostgreSQL always prints ``numeric(p, s)`` with s decimals and without negative zero."""
    scale = (column.typmod - _HEADER) & 0x7FF
    if column.typmod < _HEADER or scale > 1000:  # above 1000: negative, from PostgreSQL 15 on
        return None
    if isinstance(value, str):
        value = str.__str__(value)
    elif not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if not number.is_finite():
        return None
    exact = number.quantize(Decimal(1).scaleb(-scale))
    return None if exact != number else format(abs(exact) if exact == 0 else exact, "f")


def _date(column: KeyColumn, value: object) -> str | None:
    if isinstance(value, str):
        value = dt.date.fromisoformat(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    return None


def _timestamp(column: KeyColumn, value: object) -> str | None:
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return _moment(value)
    return None


def _timestamptz(column: KeyColumn, value: object) -> str | None:
    """The stream's session has ``TimeZone`` UTC."""
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.datetime) and value.utcoffset() is not None:
        return _moment(value.astimezone(dt.UTC).replace(tzinfo=None)) + "+00"
    return None


def _moment(value: dt.datetime) -> str:
    text = value.isoformat(sep=" ")
    return text.rstrip("0") if value.microsecond else text


_WRITERS: Final[Mapping[str, Callable[[KeyColumn, Any], KeyValue | None]]] = {
    **dict.fromkeys(INTEGER_TYPES, _whole),
    "bool": _truth,
    "text": _text,
    "varchar": _text,
    "bpchar": _padded,
    "uuid": _uuid,
    "numeric": _numeric,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}
