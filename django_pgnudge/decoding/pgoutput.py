"""pgoutput, PostgreSQL's own plugin: binary messages for the tables of a publication.

Source: PostgreSQL documentation, "Logical Replication Message Formats". In protocol version 2 the
server streams large transactions in blocks before they end.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from struct import Struct
from struct import error as struct_error

from ..epoch import POSTGRES_EPOCH
from ..errors import ConfigError, DecodeError
from ..events import Key
from .base import (
    EMIT_PREFIX,
    MAX_KEY_TEXT,
    Decoder,
    DecoderOptions,
    Sink,
    Table,
)
from .columns import INTEGER_TYPES, KeyColumn, PrimaryKeys, read_value

MAX_RELATIONS_SIZE = 64 * 1024 * 1024
"""The most bytes of Relation messages that are remembered, enough for about 300,000 tables. The
server sends each only once in a stream, so none can be forgotten."""

_BEGIN = Struct("!cQqI")
_COMMIT = Struct("!cBQQq")
_OID = Struct("!xI")
_RELATION = Struct("!cI")
_TYPE = Struct("!Ii")
_FULL = b"f"
_TRUNCATE = Struct("!cIB")
_LOGICAL_MESSAGE = Struct("!cBQ")
_U16 = Struct("!H")
_U32 = Struct("!I")
_STREAM_START = Struct("!cIB")
_STREAM_COMMIT = Struct("!cIBQQq")
_STREAM_ABORT = Struct("!cII")

XID_SIZE = 4
"""The size of the xid, in bytes, that follows the type of each message inside a block of a streamed
transaction."""


class _Relation(Table):
    """A table as its Relation message announced it; inside a block, as one xid changes it."""

    __slots__ = (
        "columns",
        "identity",
        "key",
        "made_by",
        "name",
        "number_first",
        "quick",
        "short_key",
        "size",
        "told",
        "types",
    )

    def __init__(
        self,
        name: str,
        types: Mapping[str, bytes],
        identity: frozenset[str],
        size: int,
    ) -> None:
        super().__init__(())
        self.name = name
        self.columns = columns = tuple(types)
        self.types = types
        """The OID of each column's type and its ``atttypmod``, as bytes of the message."""
        self.identity = identity
        self.size = size
        self.key: tuple[tuple[int, KeyColumn], ...] | None = None
        """The primary-key columns with their positions; None if keys are not collected."""
        self.number_first = False
        """Whether the key is a single integer in the first column."""
        self.short_key = b"N" + _U16.pack(len(columns)) + b"t\0\0\0"
        """The beginning of the tuple of an INSERT, or of an UPDATE that kept its key, if the first
        column is a text of fewer than 256 bytes."""
        self.quick = False
        """Whether the row has only this tuple, and begins with the key as a short text."""
        self.told = 0
        """The number of bytes of the first tuple that are in ``prefix``."""
        self.made_by = b""
        """Inside a block, the xid that changes the table."""

    @property
    def has_key(self) -> bool:
        return self.key is not None


class PgOutput(Decoder[_Relation]):
    plugin = "pgoutput"

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: DecoderOptions) -> None:
        super().__init__(sink, primary_keys, options)
        self.proves_keys = True
        self._relations: dict[int, _Relation] = {}
        self._relations_size = 0
        self._shift = 0
        """`XID_SIZE` inside a block of a streamed transaction, else 0."""
        self._made_by = b""
        """Inside a block, the xid of the change that was reported last."""

    @staticmethod
    def start_options(options: DecoderOptions, server_version: int) -> Mapping[str, str]:
        if options.publication is None:
            raise ConfigError("plugin 'pgoutput' needs a publication: set publication=")
        chosen = {
            "proto_version": "1",
            "publication_names": '"' + options.publication.replace('"', '""') + '"',
        }
        if server_version >= 140000:
            chosen |= {"proto_version": "2", "streaming": "on", "messages": "true"}
        return chosen

    def table_of_row(self, buffer: bytes, start: int, stop: int) -> _Relation | None:
        # A row begins with its kind, inside a block the xid, its relation, the kind of its first
        # tuple and the number of columns. A key that is read in place then has its format byte and
        # the upper bytes of its length.
        shift = self._shift
        if buffer[start] not in b"IUD" or stop - start < 6 + shift:
            return None
        (oid,) = _OID.unpack_from(buffer, start + shift)
        relation = self._announced(oid, buffer[start + 1 : start + 1 + shift])
        first = start + 5 + shift
        quick = relation.number_first and buffer.startswith(relation.short_key, first, stop)
        relation.quick = quick
        relation.told = 7 if quick else 3
        relation.prefix = buffer[start : first + relation.told]
        return relation

    def collect(
        self, keys: list[Key], table: _Relation, buffer: bytes, pos: int, stop: int
    ) -> bool:
        if table.quick and pos < stop:
            # The common case: one tuple that begins with an integer.
            end = pos + 1 + buffer[pos]
            if end <= stop:
                try:
                    keys.append((int(buffer[pos + 1 : end]),))
                except ValueError:
                    pass  # `_collect_any` handles every other form.
                else:
                    return True
        return self._collect_any(keys, table, buffer[pos - table.told : stop])

    def _collect_any(self, keys: list[Key], table: _Relation, tuples: bytes) -> bool:
        assert table.key is not None
        pos = 0
        while pos < len(tuples):
            if tuples[pos : pos + 1] not in (b"N", b"K", b"O"):
                raise DecodeError(f"a pgoutput row has a tuple marked {tuples[pos : pos + 1]!r}")
            values, pos = _tuple(tuples, pos + 1)
            if len(values) != len(table.columns):
                raise DecodeError("a pgoutput row does not have the columns of its relation")
            key = []
            for index, column in table.key:
                value = values[index]
                if value is None or len(value) > MAX_KEY_TEXT:
                    return False
                try:
                    key.append(read_value(value.decode(), column))
                except UnicodeDecodeError:
                    # SQL_ASCII accepts bytes that are not text.
                    return False
            keys.append(tuple(key))
        return True

    def take_prefix(self, payload: bytes) -> None:
        if payload[:1] not in (b"I", b"U", b"D"):
            # Only a row, or a logical message of another application, can be this long.
            if payload[:1] != b"M":
                raise DecodeError(f"a pgoutput message {payload[:1]!r} is too long to hold")
            return
        (oid,) = _OID.unpack_from(payload, self._shift)
        self._tell(self._announced(oid, payload[1 : 1 + self._shift]), 1, None)

    def forget_tables(self) -> None:
        for relation in self._relations.values():
            self._find_key(relation)

    def take(self, body: bytes) -> None:
        try:
            made_by = b""
            if self._shift and body[:1] in (b"R", b"T", b"M", b"Y"):
                made_by = body[1 : 1 + XID_SIZE]
                body = body[:1] + body[1 + XID_SIZE :]
            match body[:1]:
                case b"B":
                    _, _, _, xid = _BEGIN.unpack(body)
                    self.sink.begin(xid)
                case b"C":
                    _, _, _, end_lsn, micros = _COMMIT.unpack(body)
                    self.sink.commit(end_lsn, micros / 1_000_000 + POSTGRES_EPOCH)
                case b"R":
                    self._relation(body)
                case b"T":
                    self._truncate(body, made_by)
                case b"M":
                    self._message(body, made_by)
                case b"S":
                    _, xid, _ = _STREAM_START.unpack(body)
                    self.sink.stream_start(xid)
                    self._shift, self._made_by = XID_SIZE, body[1 : 1 + XID_SIZE]
                case b"E" if len(body) == 1:
                    self.sink.stream_stop()
                    self._shift = 0
                case b"c":
                    _, xid, _, _, end_lsn, micros = _STREAM_COMMIT.unpack(body)
                    self.sink.stream_commit(xid, end_lsn, micros / 1_000_000 + POSTGRES_EPOCH)
                case b"A":
                    _, xid, subxid = _STREAM_ABORT.unpack(body)
                    self.sink.stream_abort(xid, subxid)
                case b"O" | b"Y":
                    # Origin and Type messages are not needed.
                    pass
                case other:
                    raise DecodeError(f"pgoutput message {other!r} is not known")
        except (struct_error, ValueError) as error:
            if isinstance(error, DecodeError):
                raise
            raise DecodeError(f"a pgoutput message {body[:1]!r} is cut short") from None

    def _relation(self, body: bytes) -> None:
        _, oid = _RELATION.unpack_from(body)
        schema, pos = _cstring(body, 5)
        table, pos = _cstring(body, pos)
        if body[pos : pos + 1] == _FULL:
            # Every column is part of the identity, so the message does not show which are the key.
            self.proves_keys = False
        (count,) = _U16.unpack_from(body, pos + 1)
        pos += 3
        types = {}
        identity = set()
        for _ in range(count):
            flags = body[pos : pos + 1]
            name, pos = _cstring(body, pos + 1)
            types[name] = body[pos : pos + 8]
            pos += 8
            if flags == b"\1":
                identity.add(name)
        if pos != len(body):
            raise DecodeError("a pgoutput Relation does not end with its last column")
        previous = self._relations.get(oid)
        self._relations_size += len(body) - (0 if previous is None else previous.size)
        if self._relations_size > MAX_RELATIONS_SIZE:
            raise DecodeError(f"pgoutput announced tables in over {MAX_RELATIONS_SIZE} bytes")
        # The protocol sends pg_catalog as an empty string.
        schema = schema or "pg_catalog"
        relation = _Relation(f"{schema}.{table}", types, frozenset(identity), len(body))
        if self.wanted(schema, table):
            relation.payloads = (relation.name,)
        self._find_key(relation)
        self._relations[oid] = relation

    def _find_key(self, relation: _Relation) -> None:
        relation.key = None
        wanted = self.key_columns(relation.name) if relation.payloads else None
        if wanted is None:
            return
        key = []
        for column in wanted:
            # If a key is outside the replica identity, an UPDATE can change it without sending the
            # old key. If the type differs, the column is not the one that the catalogs described.
            if column.name in relation.identity:
                sent = relation.types[column.name]
                if sent == _TYPE.pack(column.own_type, column.own_typmod):
                    key.append((relation.columns.index(column.name), column))
                    continue
            self.doubt(relation.name)
            return
        relation.key = tuple(key)
        ((place, column), *others) = key
        relation.number_first = place == 0 and column.type in INTEGER_TYPES and not others

    def _truncate(self, body: bytes, made_by: bytes) -> None:
        _, count, _ = _TRUNCATE.unpack_from(body)
        if len(body) != _TRUNCATE.size + 4 * count:
            raise DecodeError("a pgoutput Truncate does not list as many tables as it says")
        for (oid,) in _U32.iter_unpack(body[_TRUNCATE.size :]):
            self._tell(self._announced(oid, made_by), 1, None)

    def _message(self, body: bytes, made_by: bytes) -> None:
        _, flags, _ = _LOGICAL_MESSAGE.unpack_from(body)
        prefix, pos = _cstring(body, _LOGICAL_MESSAGE.size)
        (length,) = _U32.unpack_from(body, pos)
        content = body[pos + 4 :]
        if len(content) != length:
            raise DecodeError("a pgoutput Message does not have the length it says")
        if flags & 1 and prefix == EMIT_PREFIX:
            if made_by:
                self._attribute(made_by)
            # The server does not convert the content to the client's encoding.
            self.nudge(self.text(content))

    def _announced(self, oid: int, made_by: bytes) -> _Relation:
        relation = self._relations.get(oid)
        if relation is None:
            raise DecodeError(f"pgoutput sent a change of relation {oid}, which it never announced")
        if relation.made_by != made_by:
            # A copy, so that rows of two subtransactions are reported separately.
            relation = self._relations[oid] = copy(relation)
            relation.made_by = made_by
        return relation

    def _tell(self, table: _Relation, count: int, keys: list[Key] | None) -> None:
        if table.made_by:
            self._attribute(table.made_by)
        for payload in table.payloads:
            self.sink.rows(payload, count, keys)

    def _attribute(self, made_by: bytes) -> None:
        """Tell the sink which xid made the next changes of this block."""
        if made_by != self._made_by:
            self.sink.stream_made_by(*_U32.unpack(made_by))
            self._made_by = made_by


def _cstring(body: bytes, pos: int) -> tuple[str, int]:
    end = body.index(b"\0", pos)
    return body[pos:end].decode("utf-8", "backslashreplace"), end + 1


def _tuple(body: bytes, pos: int) -> tuple[list[bytes | None], int]:
    """Read a TupleData: the text of each column, None if it has no text."""
    count = int.from_bytes(body[pos : pos + 2], "big")
    pos += 2
    values: list[bytes | None] = []
    for _ in range(count):
        mark = body[pos : pos + 1]
        pos += 1
        if mark in (b"n", b"u"):
            values.append(None)
            continue
        if mark not in (b"t", b"b"):
            raise DecodeError(f"a pgoutput tuple has a column marked {mark!r}")
        length = int.from_bytes(body[pos : pos + 4], "big")
        values.append(body[pos + 4 : pos + 4 + length] if mark == b"t" else None)
        pos += 4 + length
    if pos > len(body):
        raise DecodeError("a pgoutput tuple ends outside its message")
    return values, pos
