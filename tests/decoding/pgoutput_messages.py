"""pgoutput's messages as bytes, from the chapter "Logical Replication Message Formats"."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Literal

from tests.decoding.columns import KEYS, TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNCHANGED = object()
Value = str | bytes | object | None


def begin(xid: int = 700) -> bytes:
    return pack("!cQqI", b"B", 0x1000, 0, xid)


def commit(lsn: int = 0x2000, micros: int = 1_500_000) -> bytes:
    return pack("!cBQQq", b"C", 0, lsn - 8, lsn, micros)


def origin(name: str = "elsewhere") -> bytes:
    return pack("!cQ", b"O", 0x900) + name.encode() + b"\0"


def type_name(name: str = "mood") -> bytes:
    return pack("!cI", b"Y", 90_000) + b"public\0" + name.encode() + b"\0"


def relation(
    oid: int,
    table: str,
    columns: Sequence[str],
    identity: Sequence[str] | None = None,
    schema: str = "public",
    kind: bytes = b"d",
    types: Mapping[str, tuple[int, int]] | None = None,
) -> bytes:
    """Without an identity the first column is it.

    ``types`` are OIDs and typmods of columns that have not those of `KEYS`, or else are text.
    """
    known = {
        column.name: (column.own_type, column.own_typmod)
        for column in KEYS.get(f"{schema}.{table}", ())
    }
    known |= types or {}
    identity = columns[:1] if identity is None else identity
    body = [pack("!cI", b"R", oid), schema.encode(), b"\0", table.encode(), b"\0", kind]
    body.append(pack("!H", len(columns)))
    for column in columns:
        body.append(pack("!B", column in identity) + column.encode() + b"\0")
        body.append(pack("!Ii", *known.get(column, (TYPES["text"][0], -1))))
    return b"".join(body)


def values(*columns: Value) -> bytes:
    parts = [pack("!H", len(columns))]
    for value in columns:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            assert isinstance(value, str | bytes)
            raw = value.encode() if isinstance(value, str) else value
            parts.append(b"t" + pack("!I", len(raw)) + raw)
    return b"".join(parts)


def insert(oid: int, *new: Value) -> bytes:
    return pack("!cIc", b"I", oid, b"N") + values(*new)


def update(
    oid: int,
    new: Sequence[Value],
    old: Sequence[Value] | None = None,
    mark: Literal[b"K", b"O"] = b"K",
) -> bytes:
    body = pack("!cI", b"U", oid)
    if old is not None:
        body += mark + values(*old)
    return body + b"N" + values(*new)


def delete(oid: int, *old: Value, mark: Literal[b"K", b"O"] = b"K") -> bytes:
    return pack("!cIc", b"D", oid, mark) + values(*old)


def truncate(*oids: int, options: int = 0) -> bytes:
    return pack("!cIB", b"T", len(oids), options) + b"".join(pack("!I", oid) for oid in oids)


def message(content: bytes, prefix: str = "pgnudge", flags: int = 1) -> bytes:
    head = pack("!cBQ", b"M", flags, 0x1800) + prefix.encode() + b"\0"
    return head + pack("!I", len(content)) + content


def stream_start(xid: int = 800, *, first: bool = True) -> bytes:
    return pack("!cIB", b"S", xid, first)


def streamed(payload: bytes, xid: int = 800) -> bytes:
    """A message as it stands in a block: with the xid of who made it behind its type."""
    return payload[:1] + pack("!I", xid) + payload[1:]


def stream_stop() -> bytes:
    return b"E"


def stream_commit(xid: int = 800, lsn: int = 0x2000, micros: int = 1_500_000) -> bytes:
    return pack("!cIBQQq", b"c", xid, 0, lsn - 8, lsn, micros)


def stream_abort(xid: int = 800, subxid: int | None = None) -> bytes:
    return pack("!cII", b"A", xid, xid if subxid is None else subxid)
