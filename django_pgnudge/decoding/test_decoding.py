"""test_decoding, the plugin every server has: one line of text a message.

Source: contrib/test_decoding/test_decoding.c. A row reads
``table schema.name: INSERT: column[type]:value …``; names are quoted as SQL quotes them, so the
name ends at the first colon outside quotation marks, and a value never looks like a name because
it stands inside apostrophes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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

__all__ = ["TestDecoding"]

# Quantifiers are possessive: a hostile server cannot make a match go back and forth.
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
_BEGIN = re.compile(rb"BEGIN (\d{1,10})")
_COMMIT = re.compile(rb"COMMIT (\d{1,10}) \(at ([^)]+)\)")
_MESSAGE = re.compile(
    rb"message: transactional: 1 prefix: %b, sz: (\d{1,10}) content:" % EMIT_PREFIX.encode()
)


class _Tables:
    """The tables of one change, as their names stand in its text; a TRUNCATE has several."""

    __slots__ = ("key", "payloads")

    def __init__(self, payloads: tuple[str, ...]) -> None:
        self.payloads = payloads
        self.key: dict[bytes, tuple[int, str]] | None = None
        """Quoted column name to position in the key and type, if keys are collected."""


class TestDecoding(Decoder):
    plugin = "test_decoding"
    __test__ = False

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: Options) -> None:
        super().__init__(sink, primary_keys, options)
        self._tables: dict[bytes, _Tables] = {}

    @staticmethod
    def start_options(options: Options, server_version: int) -> Mapping[str, str]:
        # With skip-empty-xacts a transaction that only emits a message has no BEGIN and no xid.
        return {"include-xids": "1", "include-timestamp": "1", "skip-empty-xacts": "0"}

    def scan(self, buffer: bytes, pos: int) -> int:
        end = len(buffer)
        header = MESSAGE.unpack_from
        find = buffer.find
        tables = self._tables
        lsn = self.lsn
        run: _Tables | None = None
        count = 0
        keys: list[Key] | None = None
        while end - pos >= HEADER:
            kind, length, sub, _, stop_lsn, _ = header(buffer, pos)
            stop = pos + 1 + length
            if kind != b"d" or sub != b"w" or stop > end or length < HEADER:
                break
            start = pos + HEADER
            if buffer[start : start + 6] == b"table ":
                name = start + 6
                colon = find(b":", name, stop)
                raw = buffer[name:colon]
                if b'"' in raw or colon < 0:
                    colon = self._name_end(buffer, name, stop)
                    raw = buffer[name:colon]
                found = tables.get(raw)
                if found is None:
                    found = self._resolve(raw)
                if found is not run:
                    if run is not None:
                        self._flush(run, count, keys)
                    run, count = found, 0
                    keys = None if found.key is None else []
                count += 1
                if keys is not None and not self._collect(keys, found, buffer, colon, stop):
                    keys = None
            else:
                if run is not None:
                    self._flush(run, count, keys)
                    run = None
                self._take(buffer[start:stop], stop_lsn)
            lsn = stop_lsn or lsn
            pos = stop
        if run is not None:
            self._flush(run, count, keys)
        self.lsn = lsn
        return pos

    def take_prefix(self, payload: bytes) -> None:
        if payload.startswith(b"table "):
            raw = payload[6 : self._name_end(payload, 6, len(payload))]
            self._flush(self._resolve(raw), 1, None)
        elif not payload.startswith(b"message: "):
            raise DecodeError("a test_decoding message too long to hold is neither row nor message")

    def forget_tables(self) -> None:
        self._tables.clear()

    def _flush(self, tables: _Tables, count: int, keys: list[Key] | None) -> None:
        for payload in tables.payloads:
            self.sink.rows(payload, count, keys)

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
            found.key = {
                name.encode(self.options.encoding, "replace"): (index, type_name)
                for index, (name, type_name) in enumerate(columns)
            }
        if len(raw) <= MAX_NAME:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            self._tables[raw] = found
        return found

    def _collect(
        self, keys: list[Key], tables: _Tables, buffer: bytes, colon: int, stop: int
    ) -> bool:
        """Add the keys of one row; False if they cannot be told or are too many."""
        if tables.key is None or len(keys) > self.options.max_keys:
            return False
        operation = _OPERATION.match(buffer, colon, stop)
        if operation is None:
            raise DecodeError(f"test_decoding's row has no operation: {buffer[colon:][:40]!r}")
        if operation[1] == b"TRUNCATE":
            return False
        pos = operation.end()
        if buffer.startswith(b" old-key:", pos, stop):
            old, pos = self._key(tables.key, buffer, pos + 9, stop)
            if old is None:
                return False
            keys.append(old)
            # The new tuple follows the rest of the old one.
            pos = self._skip_to_new(buffer, pos, stop)
        new, _ = self._key(tables.key, buffer, pos, stop)
        if new is None:
            return False
        keys.append(new)
        return True

    def _key(
        self, wanted: Mapping[bytes, tuple[int, str]], buffer: bytes, pos: int, stop: int
    ) -> tuple[Key | None, int]:
        found: dict[int, object] = {}
        while len(found) < len(wanted):
            match = _COLUMN.match(buffer, pos, stop)
            if match is None:
                return None, pos
            pos = match.end()
            place = wanted.get(_unquote(match[1]))
            if place is None:
                continue
            raw = match[3]
            if raw in (b"null", b"unchanged-toast-datum"):
                return None, pos
            if raw[-1:] == b"'":
                raw = raw[raw.index(b"'") + 1 : -1].replace(b"''", b"'")
            if len(raw) > MAX_KEY_TEXT:
                return None, pos
            found[place[0]] = key_value(self.text(raw), place[1])
        return tuple(found[index] for index in range(len(wanted))), pos  # type: ignore[misc]

    @staticmethod
    def _skip_to_new(buffer: bytes, pos: int, stop: int) -> int:
        while not buffer.startswith(b" new-tuple:", pos, stop):
            match = _COLUMN.match(buffer, pos, stop)
            if match is None:
                raise DecodeError("test_decoding's UPDATE has an old key and no new tuple")
            pos = match.end()
        return pos + 11

    def _take(self, body: bytes, stop_lsn: int) -> None:
        """Take a line that is not a row."""
        if match := _BEGIN.fullmatch(body):
            self.sink.begin(int(match[1]) & 0xFFFFFFFF)
        elif match := _COMMIT.fullmatch(body):
            self.sink.commit(stop_lsn, unix_time(match[2].decode("ascii", "replace")))
        elif (match := _MESSAGE.match(body)) and len(body) - match.end() == int(match[1]):
            # With another length it has a longer prefix, which only begins like ours.
            self.sink.message(self.text(body[match.end() :]))
        elif not body.startswith(b"message: "):
            raise DecodeError(f"test_decoding's line {body[:60]!r} is not known")


def _unquote(identifier: bytes) -> bytes:
    if identifier[:1] == b'"':
        return identifier[1:-1].replace(b'""', b'"')
    return identifier
