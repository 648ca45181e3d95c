"""wal2json, format version 2: one JSON object a message.

Source: wal2json's README. wal2json writes its objects in a fixed order and without spaces, so the
first ``"schema":"`` of a row names its table: quotes inside a JSON string are always escaped, and
no value before it can contain quotes.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import DecodeError
from ..events import Key, KeyValue
from ..memo import Memo
from .base import (
    EMIT_PREFIX,
    MAX_KEY_TEXT,
    MAX_NAME,
    MAX_TABLES,
    Decoder,
    DecoderOptions,
    Sink,
    Table,
    unix_time,
)
from .columns import INTEGER_TYPES, KeyColumn, PrimaryKeys, read_value

_SCHEMA = b'"schema":"'
# Possessive quantifiers: a hostile server cannot cause backtracking.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NAME = re.compile(rb'"schema":%b,"table":%b' % (_STRING, _STRING), re.DOTALL)
_NUMBER_FIRST = rb',"(?:columns|identity)":\[\{"name":%b,"value":(-?\d{1,20})\}'
_IDENTITY = b',"identity":['
# As wal2json writes them. A message in any other form is read as JSON.
_BEGIN = re.compile(rb'\{"action":"B","xid":(\d{1,10}),"timestamp":"[^"\\]*+"\}')
_COMMIT = re.compile(rb'\{"action":"C","xid":\d{1,10},"timestamp":"([^"\\]*+)"\}')
_XID = re.compile(r"\d{1,10}", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,20}", re.ASCII)
_SPECIAL = re.compile(r"([\\\s'\",.*])")


class _Number(str):
    """The text of a JSON number. It stays text because 1.50 and 1.5 are different keys."""

    __slots__ = ()


class _Table(Table):
    """The table that a row's text names."""

    __slots__ = ("key", "number")

    def __init__(self, payloads: tuple[str, ...]) -> None:
        super().__init__(payloads)
        self.key: tuple[KeyColumn, ...] | None = None
        self.number: re.Pattern[bytes] | None = None
        """Matches the beginning of a tuple whose first column is the key, an integer."""

    @property
    def has_key(self) -> bool:
        return self.key is not None


class Wal2Json(Decoder[_Table]):
    plugin = "wal2json"

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: DecoderOptions) -> None:
        super().__init__(sink, primary_keys, options)
        self._tables: Memo[bytes, _Table] = Memo(MAX_TABLES)

    @staticmethod
    def start_options(options: DecoderOptions, server_version: int) -> Mapping[str, str]:
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

    def table_of_row(self, buffer: bytes, start: int, stop: int) -> _Table | None:
        # {"action":"I"… : the letter has a fixed position.
        if buffer[start + 11 : start + 12] not in (b"I", b"U", b"D"):
            return None
        name = buffer.find(_SCHEMA, start, stop)
        match = _NAME.match(buffer, name, stop) if name >= 0 else None
        if match is None:
            return None
        raw = match[0]
        table = self._tables.get(raw) or self._table(raw)
        table.prefix = buffer[start : match.end()]
        return table

    def take_prefix(self, payload: bytes) -> None:
        name = payload.find(_SCHEMA)
        match = _NAME.match(payload, name) if name >= 0 else None
        if match is not None:
            self._tell(self._table(match[0]), 1, None)
        elif not payload.startswith(b'{"action":"M"'):
            raise DecodeError("a wal2json message too long to hold does not begin with a table")

    def forget_tables(self) -> None:
        self._tables.clear()

    def _table(self, raw: bytes) -> _Table:
        """Resolve ``"schema":"…","table":"…"`` and remember it."""
        table = self._named(self._object(b"{" + raw + b"}"))
        if len(raw) <= MAX_NAME:
            self._tables[raw] = table
        return table

    def _named(self, obj: Mapping[str, Any]) -> _Table:
        schema, name = obj.get("schema"), obj.get("table")
        if not isinstance(schema, str) or not isinstance(name, str):
            raise DecodeError("a wal2json change does not name its table")
        payload = f"{schema}.{name}"
        if not self.wanted(schema, name):
            return _Table(())
        table = _Table((payload,))
        columns = self.key_columns(payload)
        if columns is not None:
            table.key = tuple(columns)
            first, *others = columns
            if first.type in INTEGER_TYPES and first.is_number and not others:
                quoted = re.escape(json.dumps(first.name, ensure_ascii=False).encode())
                table.number = re.compile(_NUMBER_FIRST % quoted)
        return table

    def _object(self, body: bytes) -> Mapping[str, Any]:
        try:
            obj = json.loads(
                body.decode(self.options.encoding, _ESCAPE_IN_JSON),
                parse_float=_Number,
                parse_int=_Number,
                parse_constant=_Number,
            )
            if b"\\u" in body:
                # Half a surrogate pair is not a character and cannot be encoded.
                json.dumps(obj, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise DecodeError(f"wal2json sent {body[:60]!r}, which is not JSON") from None
        if not isinstance(obj, dict):
            raise DecodeError(f"wal2json sent {body[:60]!r}, which is not an object")
        return obj

    def collect(self, keys: list[Key], table: _Table, buffer: bytes, pos: int, stop: int) -> bool:
        if table.number is not None and (new := table.number.match(buffer, pos, stop)):
            keys.append((int(new[1]),))
            # This cannot match inside a value, where quotes are escaped.
            identity = buffer.find(_IDENTITY, new.end(), stop)
            if identity < 0:
                return True
            if old := table.number.match(buffer, identity, stop):
                keys.append((int(old[1]),))
                return True
        return self._collect_any(keys, table, b'{"":0' + buffer[pos:stop])

    def _collect_any(self, keys: list[Key], table: _Table, rest: bytes) -> bool:
        assert table.key is not None
        obj = self._object(rest)
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
            for column in table.key:
                value = self._value(column, values.get(column.name), rest)
                if value is None:
                    # A column whose type was changed also ends here: the known key is out of date.
                    self.doubt(table.payloads[0])
                    return False
                key.append(value)
            keys.append(tuple(key))
            added = True
        return added

    def _value(self, column: KeyColumn, value: object, row: bytes) -> KeyValue | None:
        if isinstance(value, bool):
            return value if column.is_bool else None
        if (
            not isinstance(value, str)
            or len(value) > MAX_KEY_TEXT
            or isinstance(value, _Number) != column.is_number
            or column.is_bool
        ):
            return None
        if not (column.is_number or row.isascii() or self._is_certain(value, row)):
            return None
        if column.is_bytea:
            # Only wal2json leaves out the prefix that PostgreSQL prints before the digits.
            value = "\\x" + value
        if column.type in INTEGER_TYPES and not _WHOLE.fullmatch(value):
            return None
        return read_value(str(value), column)

    def _is_certain(self, value: str, row: bytes) -> bool:
        if not (self.is_everyones(value)):
            return False
        try:
            row.decode(self.options.encoding)
        except UnicodeDecodeError:
            # Escaped bytes look like ordinary text.
            return False
        return True

    def take(self, body: bytes) -> None:
        # A row in an unusual form also ends here.
        if match := _BEGIN.fullmatch(body):
            self.sink.begin(int(match[1]) & 0xFFFFFFFF)
            return
        if match := _COMMIT.fullmatch(body):
            self.sink.commit(self.lsn, unix_time(match[1].decode("ascii", "replace")))
            return
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
                self.sink.commit(self.lsn, unix_time(timestamp))
            case "I" | "U" | "D" | "T":
                self._tell(self._named(obj), 1, None)
            case "M":
                content = obj.get("content")
                if (
                    obj.get("transactional") is True
                    and obj.get("prefix") == EMIT_PREFIX
                    and isinstance(content, str)
                ):
                    self.nudge(content)
            case _:
                raise DecodeError(f"wal2json sent {body[:60]!r}, whose action is not known")


def _escape_in_json(error: UnicodeError) -> tuple[str, int]:
    """Like "backslashreplace" for bytes that are not in the database's encoding, but with the
    backslash escaped for a JSON string."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    escaped = (f"\\\\x{byte:02x}" for byte in error.object[error.start : error.end])
    return "".join(escaped), error.end


_ESCAPE_IN_JSON = "django_pgnudge.json"
codecs.register_error(_ESCAPE_IN_JSON, _escape_in_json)


def _escape(table: str) -> Iterator[str]:
    """A table's names for ``add-tables``, in wal2json's escaping; a lone ``*`` stays a wildcard.

    With several dots, any of them may end the schema, so there is one name for each dot. The
    decoder drops rows of tables that match too much.
    """
    for dot in re.finditer(r"\.", table):
        parts = table[: dot.start()], table[dot.end() :]
        if all(parts):
            yield ".".join(part if part == "*" else _SPECIAL.sub(r"\\\1", part) for part in parts)
