"""wal2json, format version 2: one JSON object a message.

Source: wal2json's README. Its objects are written in a fixed order without spaces, so the first
``"schema":"`` of a row is where its table is named: a quotation mark inside a JSON string is
always escaped, and nothing that stands before it can contain one.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import DecodeError
from ..events import Key
from .base import (
    EMIT_PREFIX,
    HEADER,
    MAX_KEY_TEXT,
    MAX_NAME,
    MAX_TABLES,
    MESSAGE,
    Decoder,
    Options,
    PrimaryKeys,
    Sink,
    key_value,
    unix_time,
)

__all__ = ["Wal2Json"]

_SCHEMA = b'"schema":"'
# Quantifiers are possessive: a hostile server cannot make a match go back and forth.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NAME = re.compile(rb'"schema":%b,"table":%b' % (_STRING, _STRING), re.DOTALL)
_XID = re.compile(r"\d{1,10}", re.ASCII)
_SPECIAL = re.compile(r"([\\\s'\",.*])")


class _Table:
    """A table as its name stands in a row's text."""

    __slots__ = ("key", "payload", "wanted")

    def __init__(self, payload: str, *, wanted: bool) -> None:
        self.payload = payload
        self.wanted = wanted
        self.key: tuple[tuple[str, str], ...] | None = None


class Wal2Json(Decoder):
    plugin = "wal2json"

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: Options) -> None:
        super().__init__(sink, primary_keys, options)
        self._tables: dict[bytes, _Table] = {}

    @staticmethod
    def start_options(options: Options, server_version: int) -> Mapping[str, str]:
        chosen = {
            "format-version": "2",
            "include-xids": "true",
            "include-timestamp": "true",
            "include-types": "false",
            "add-msg-prefixes": EMIT_PREFIX,
        }
        if options.tables is not None:
            chosen["add-tables"] = ",".join(
                name for table in options.tables for name in _escape(table)
            )
        return chosen

    def scan(self, buffer: bytes, pos: int) -> int:
        end = len(buffer)
        header = MESSAGE.unpack_from
        find, match_name = buffer.find, _NAME.match
        rows = self.sink.rows
        tables = self._tables
        lsn = self.lsn
        run: _Table | None = None
        count = 0
        keys: list[Key] | None = None
        while end - pos >= HEADER:
            kind, length, sub, _, stop_lsn, _ = header(buffer, pos)
            stop = pos + 1 + length
            if kind != b"d" or sub != b"w" or stop > end or length < HEADER:
                break
            start = pos + HEADER
            table = None
            # {"action":"I"… : the letter stands at a fixed place.
            if buffer[start + 11 : start + 12] in (b"I", b"U", b"D"):
                name = find(_SCHEMA, start, stop)
                match = match_name(buffer, name, stop) if name >= 0 else None
                if match is not None:
                    raw = match[0]
                    table = tables.get(raw) or self._table(raw)
            if table is None:
                if run is not None and run.wanted:
                    rows(run.payload, count, keys)
                run = None
                self._take(buffer[start:stop], stop_lsn)
            else:
                if table is not run:
                    if run is not None and run.wanted:
                        rows(run.payload, count, keys)
                    run, count = table, 0
                    keys = None if table.key is None else []
                count += 1
                if keys is not None and not self._collect(keys, table, buffer[start:stop]):
                    keys = None
            lsn = stop_lsn or lsn
            pos = stop
        if run is not None and run.wanted:
            rows(run.payload, count, keys)
        self.lsn = lsn
        return pos

    def take_prefix(self, payload: bytes) -> None:
        name = payload.find(_SCHEMA)
        match = _NAME.match(payload, name) if name >= 0 else None
        if match is not None:
            table = self._table(match[0])
            if table.wanted:
                self.sink.rows(table.payload, 1, None)
        elif not payload.startswith(b'{"action":"M"'):
            raise DecodeError("a wal2json message too long to hold does not begin with a table")

    def forget_tables(self) -> None:
        self._tables.clear()

    def _table(self, raw: bytes) -> _Table:
        """Resolve ``"schema":"…","table":"…"`` and remember it."""
        table = self._named(self._object(b"{" + raw + b"}"))
        if len(raw) <= MAX_NAME:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            self._tables[raw] = table
        return table

    def _named(self, obj: Mapping[str, Any]) -> _Table:
        schema, name = obj.get("schema"), obj.get("table")
        if not isinstance(schema, str) or not isinstance(name, str):
            raise DecodeError("a wal2json change does not name its table")
        table = _Table(f"{schema}.{name}", wanted=self.wanted(schema, name))
        columns = self.key_columns(table.payload) if table.wanted else None
        table.key = None if columns is None else tuple(columns)
        return table

    def _object(self, body: bytes) -> Mapping[str, Any]:
        try:
            # Numbers stay text: 1.50 is a key's text, and 1.5 is another.
            obj = json.loads(
                body.decode(self.options.encoding, _ESCAPE_IN_JSON),
                parse_float=str,
                parse_int=str,
                parse_constant=str,
            )
            if b"\\u" in body:
                # Half a surrogate pair is no character, and could not be written anywhere.
                json.dumps(obj, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise DecodeError(f"wal2json sent {body[:60]!r}, which is not JSON") from None
        if not isinstance(obj, dict):
            raise DecodeError(f"wal2json sent {body[:60]!r}, which is not an object")
        return obj

    def _collect(self, keys: list[Key], table: _Table, body: bytes) -> bool:
        """Add the keys of one row; False if they cannot be told or are too many."""
        if table.key is None or len(keys) > self.options.max_keys:
            return False
        obj = self._object(body)
        added = False
        for part in ("columns", "identity"):
            columns = obj.get(part)
            if columns is None:
                continue
            if not isinstance(columns, list):
                raise DecodeError(f"wal2json's {part!r} is not an array")
            values = {
                column["name"]: column.get("value")
                for column in columns
                if isinstance(column, dict) and isinstance(column.get("name"), str)
            }
            key = []
            for name, type_name in table.key:
                value = values.get(name)
                if isinstance(value, bool):
                    value = "true" if value else "false"
                if not isinstance(value, str) or len(value) > MAX_KEY_TEXT:
                    return False
                if type_name == "bytea":
                    # wal2json alone leaves out what PostgreSQL prints before the digits.
                    value = "\\x" + value
                key.append(key_value(value, type_name))
            keys.append(tuple(key))
            added = True
        return added

    def _take(self, body: bytes, stop_lsn: int) -> None:
        """Take a message that is not a row, or a row written in an unusual way."""
        obj = self._object(body)
        match obj.get("action"):
            case "B":
                xid = obj.get("xid")
                if not isinstance(xid, str) or not _XID.fullmatch(xid):
                    raise DecodeError("a wal2json BEGIN has no xid")
                self.sink.begin(int(xid) & 0xFFFFFFFF)
            case "C":
                timestamp = obj.get("timestamp")
                if not isinstance(timestamp, str):
                    raise DecodeError("a wal2json COMMIT has no timestamp")
                self.sink.commit(stop_lsn, unix_time(timestamp))
            case "I" | "U" | "D" | "T":
                table = self._named(obj)
                if table.wanted:
                    self.sink.rows(table.payload, 1, None)
            case "M":
                content = obj.get("content")
                if (
                    obj.get("transactional") is True
                    and obj.get("prefix") == EMIT_PREFIX
                    and isinstance(content, str)
                ):
                    self.sink.message(content)
            case _:
                raise DecodeError(f"wal2json sent {body[:60]!r}, whose action is not known")


def _escape_in_json(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are not in the database's encoding become what "backslashreplace" makes of them,
    written as inside a JSON string."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    escaped = (f"\\\\x{byte:02x}" for byte in error.object[error.start : error.end])
    return "".join(escaped), error.end


_ESCAPE_IN_JSON = "django_pgnudge.json"
codecs.register_error(_ESCAPE_IN_JSON, _escape_in_json)


def _escape(table: str) -> Iterator[str]:
    """A table for ``add-tables``, with wal2json's own escaping; ``*`` alone stays a wildcard.

    Which dot of several ends the schema cannot be told, so each is named as the one; what comes
    too much is dropped here.
    """
    for dot in re.finditer(r"\.", table):
        parts = table[: dot.start()], table[dot.end() :]
        if all(parts):
            yield ".".join(part if part == "*" else _SPECIAL.sub(r"\\\1", part) for part in parts)
