"""test_decoding, the plugin that every server has: one line of text a message.

Source: contrib/test_decoding/test_decoding.c. A row reads
``table schema.name: INSERT: column[type]:value …``. Names are quoted as in SQL, so a name ends at
the first colon outside double quotes. A value cannot look like a name, because it is inside single
quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

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

# Possessive quantifiers: a hostile server cannot cause backtracking.
_QUOTED = rb'"(?:[^"]|"")*+"'
_IDENTIFIER = rb'(?:%b|[^".:,\s]++)' % _QUOTED
_NAME = re.compile(rb"(%b)\.(%b)" % (_IDENTIFIER, _IDENTIFIER))
_NAMES_END = re.compile(rb'(?:[^":]|%b)*+' % _QUOTED)
_OPERATION = re.compile(rb": (INSERT|UPDATE|DELETE|TRUNCATE):")
_COLUMN = re.compile(
    rb" (%b|[^\"\[ ]++)"
    rb"\[((?:%b|[^\"\[\]]|\[\])*+)\]:"
    rb"(null|unchanged-toast-datum|B?'(?:[^']|'')*+'|[^ ']++)" % (_QUOTED, _QUOTED)
)
# Matches only names that need no quotes. An UPDATE of the key does not match: it has "old-key:"
# before the first column.
_NUMBER_FIRST = rb" (?:INSERT|UPDATE|DELETE): %b\[%b\]:(-?\d{1,20}+)(?![^ ])"
_ROW = b"table "
_BEGIN = re.compile(rb"BEGIN (\d{1,10})")
_COMMIT = re.compile(rb"COMMIT (\d{1,10}) \(at ([^)]+)\)")
_MESSAGE = re.compile(
    rb"message: transactional: 1 prefix: %b, sz: (\d{1,10}) content:" % EMIT_PREFIX.encode()
)


class _Column(NamedTuple):
    place: int
    """Its position in the key."""
    column: KeyColumn
    printed: bytes
    """Its type, as written in a row's text."""


class _Tables(Table):
    """The tables that the text of one change names; a TRUNCATE names several."""

    __slots__ = ("key", "number")

    def __init__(self, payloads: tuple[str, ...]) -> None:
        super().__init__(payloads)
        self.key: dict[bytes, _Column] | None = None
        """The key's columns by name; None if keys are not collected."""
        self.number: re.Pattern[bytes] | None = None
        """Matches the text after the name if the first column is the key, an integer."""

    @property
    def has_key(self) -> bool:
        return self.key is not None


class TestDecoding(Decoder[_Tables]):
    plugin = "test_decoding"
    __test__ = False

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: DecoderOptions) -> None:
        super().__init__(sink, primary_keys, options)
        self._tables: Memo[bytes, _Tables] = Memo(MAX_TABLES)

    @staticmethod
    def start_options(options: DecoderOptions, server_version: int) -> Mapping[str, str]:
        # With skip-empty-xacts a transaction that only emits a message has no BEGIN and no xid.
        return {"include-xids": "1", "include-timestamp": "1", "skip-empty-xacts": "0"}

    def table_of_row(self, buffer: bytes, start: int, stop: int) -> _Tables | None:
        if not buffer.startswith(_ROW, start, stop):
            return None
        name = start + len(_ROW)
        colon = buffer.find(b":", name, stop)
        raw = buffer[name:colon]
        if b'"' in raw or colon < 0:
            colon = self._name_end(buffer, name, stop)
            raw = buffer[name:colon]
        tables = self._tables.get(raw) or self._resolve(raw)
        tables.prefix = buffer[start : colon + 1]
        return tables

    def take_prefix(self, payload: bytes) -> None:
        if payload.startswith(_ROW):
            raw = payload[len(_ROW) : self._name_end(payload, len(_ROW), len(payload))]
            self._tell(self._resolve(raw), 1, None)
        elif not payload.startswith(b"message: "):
            raise DecodeError("a test_decoding message too long to hold is neither row nor message")

    def forget_tables(self) -> None:
        self._tables.clear()

    @staticmethod
    def _name_end(buffer: bytes, start: int, stop: int) -> int:
        match = _NAMES_END.match(buffer, start, stop)
        if match is None or match.end() >= stop:
            raise DecodeError(f"test_decoding's row {buffer[start : start + 60]!r} names no table")
        return match.end()

    def _resolve(self, raw: bytes) -> _Tables:
        """Resolve the names between ``table`` and the colon, and remember them."""
        payloads = []
        pos = 0
        while True:
            match = _NAME.match(raw, pos)
            if match is None:
                raise DecodeError(f"test_decoding names {raw[:60]!r}, which is not a table")
            schema, table = (self.text(_unquote(part)) for part in match.groups())
            if self.wanted(schema, table):
                payloads.append(f"{schema}.{table}")
            pos = match.end()
            if pos == len(raw):
                break
            if raw[pos : pos + 2] != b", ":
                raise DecodeError(
                    f"test_decoding names {raw[:60]!r}, which is not a list of tables"
                )
            pos += 2
        found = _Tables(tuple(payloads))
        columns = self.key_columns(payloads[0]) if len(payloads) == 1 else None
        if columns is not None:
            # A name or type that cannot be encoded matches no row.
            found.key = {
                self._bytes(column.name): _Column(place, column, self._bytes(column.printed))
                for place, column in enumerate(columns)
            }
            first, *others = columns
            if first.type in INTEGER_TYPES and first.is_number and not others:
                found.number = re.compile(
                    _NUMBER_FIRST
                    % (re.escape(self._bytes(first.name)), re.escape(self._bytes(first.printed)))
                )
        if len(raw) <= MAX_NAME:
            self._tables[raw] = found
        return found

    def collect(self, keys: list[Key], table: _Tables, buffer: bytes, pos: int, stop: int) -> bool:
        assert table.key is not None
        if table.number is not None and (match := table.number.match(buffer, pos, stop)):
            keys.append((int(match[1]),))
            return True
        colon = pos - 1
        operation = _OPERATION.match(buffer, colon, stop)
        if operation is None:
            raise DecodeError(f"test_decoding's row has no operation: {buffer[colon:][:40]!r}")
        if operation[1] == b"TRUNCATE":
            return False
        pos = operation.end()
        if buffer.startswith(b" old-key:", pos, stop):
            old, pos = self._key(table.key, buffer, pos + 9, stop)
            if old is None:
                return False
            keys.append(old)
            # The new tuple follows the rest of the old one.
            pos = self._skip_to_new(buffer, pos, stop)
        new, _ = self._key(table.key, buffer, pos, stop)
        if new is None:
            self.doubt(table.payloads[0])
            return False
        keys.append(new)
        return True

    def _key(
        self, wanted: Mapping[bytes, _Column], buffer: bytes, pos: int, stop: int
    ) -> tuple[Key | None, int]:
        found: dict[int, KeyValue] = {}
        while len(found) < len(wanted):
            match = _COLUMN.match(buffer, pos, stop)
            if match is None:
                return None, pos
            pos = match.end()
            known = wanted.get(_unquote(match[1]))
            if known is None:
                continue
            # If the type differs, the column is not the one that the catalogs described.
            raw = match[3]
            if match[2] != known.printed or raw in (b"null", b"unchanged-toast-datum"):
                return None, pos
            if raw[-1:] == b"'":
                raw = raw[raw.index(b"'") + 1 : -1].replace(b"''", b"'")
            text = self.key_text(raw) if len(raw) <= MAX_KEY_TEXT else None
            if text is None:
                return None, pos
            found[known.place] = read_value(text, known.column)
        return tuple(found[place] for place in range(len(wanted))), pos

    def _bytes(self, text: str) -> bytes:
        try:
            return text.encode(self.options.encoding)
        except UnicodeEncodeError:
            return b"\0"

    @staticmethod
    def _skip_to_new(buffer: bytes, pos: int, stop: int) -> int:
        while not buffer.startswith(b" new-tuple:", pos, stop):
            match = _COLUMN.match(buffer, pos, stop)
            if match is None:
                raise DecodeError("test_decoding's UPDATE has an old key and no new tuple")
            pos = match.end()
        return pos + 11

    def take(self, body: bytes) -> None:
        if match := _BEGIN.fullmatch(body):
            self.sink.begin(int(match[1]) & 0xFFFFFFFF)
        elif match := _COMMIT.fullmatch(body):
            self.sink.commit(self.lsn, unix_time(match[2].decode("ascii", "replace")))
        elif (match := _MESSAGE.match(body)) and len(body) - match.end() == int(match[1]):
            # If the length differs, the message has a longer prefix that begins with ours.
            self.nudge(self.text(body[match.end() :]))
        elif not body.startswith(b"message: "):
            raise DecodeError(f"test_decoding's line {body[:60]!r} is not known")


def _unquote(identifier: bytes) -> bytes:
    if identifier[:1] == b'"':
        return identifier[1:-1].replace(b'""', b'"')
    return identifier
