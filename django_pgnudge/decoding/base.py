"""What the decoders share: whom they tell, what they are told, and the loop over a buffer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from struct import Struct
from typing import ClassVar, Generic, Protocol, TypeVar

from ..errors import ConfigError, DecodeError
from ..events import Key
from ..log import get_logger
from .columns import KeyColumn, PrimaryKeys
from .nudges import objection

log = get_logger("django_pgnudge.decoding")

EMIT_PREFIX = "pgnudge"
"""The prefix of the logical messages that are an application's own nudges."""

MAX_TABLES = 10_000
"""How many tables a decoder remembers at once, by the names in their messages."""

MAX_NAME = 4096
"""The longest text, in bytes, that names tables and is remembered."""

MAX_KEY_TEXT = 8192
"""The longest text, in bytes, of a primary-key column; a row with a longer one has no key."""

# CopyData carrying XLogData: 'd', length, 'w', start LSN, end LSN, server clock, payload.
_MESSAGE = Struct("!BIB")
_COPY_DATA, _XLOG_DATA = b"dw"
_END_LSN = Struct("!14xQ")
HEADER = 30

# No message begins like this: the row before was of no table.
_NO_ROW = b"\0no row"


class Sink(Protocol):
    """Whom a decoder tells; the feed's coalescer is one.

    ``rows`` and ``message`` come between a ``begin`` and its ``commit``, for a transaction that
    has committed. A transaction that the server streams comes in blocks before it has ended, each
    between a ``stream_start`` and a ``stream_stop``, with whole transactions and other streams'
    blocks between them, and then in ``stream_commit`` or ``stream_abort``.
    """

    def begin(self, xid: int) -> None:
        """A transaction with this 32-bit top-level xid starts."""

    def rows(self, payload: str, count: int, keys: list[Key] | None) -> None:
        """``count`` rows of one table changed; their keys, or None for "any row"."""

    def wants_keys(self, payload: str) -> bool:
        """Whether the open transaction's keys for this table still tell anything: False once
        there are too many, or once any row may have changed."""

    def message(self, content: str) -> None:
        """The transaction carries an application's own nudge."""

    def commit(self, lsn: int, committed_at: float) -> None:
        """The transaction ends: its commit record ends at ``lsn``; Unix seconds of the server."""

    def stream_start(self, xid: int) -> None:
        """A block of the transaction with this 32-bit top-level xid starts."""

    def stream_made_by(self, xid: int) -> None:
        """What follows in the block was made by this subtransaction, or the transaction itself."""

    def stream_stop(self) -> None:
        """The block ends."""

    def stream_commit(self, xid: int, lsn: int, committed_at: float) -> None:
        """A streamed transaction has committed; as for `commit`."""

    def stream_abort(self, xid: int, subxid: int) -> None:
        """Of a streamed transaction this subtransaction, or all if it is ``xid``, was undone."""


class TableFilter:
    """Which payloads are wanted; ``*`` may stand for the schema or for the table."""

    def __init__(self, tables: Sequence[str] | None) -> None:
        self._all = tables is None
        self._exact: set[str] = set()
        self._schemas: set[str] = set()
        self._names: set[str] = set()
        for table in tables or ():
            schema, dot, name = table.partition(".")
            if not (schema and dot and name):
                raise ConfigError(f"tables: {table!r} is not of the form 'schema.table'")
            if schema == "*" and name == "*":
                self._all = True
            elif name == "*":
                self._schemas.add(schema)
            elif schema == "*":
                self._names.add(name)
            else:
                self._exact.add(table)

    def __call__(self, schema: str, table: str) -> bool:
        return (
            self._all
            or f"{schema}.{table}" in self._exact
            or schema in self._schemas
            or table in self._names
        )


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """What a decoder needs to know of the feed it works for.

    ``wants_keys`` says for which payloads primary keys are collected; ``max_keys`` is the number
    of keys past which the sink will not keep a table's keys anyway. ``encoding`` is the Python
    codec of the database, in which textual plugins write.
    """

    tables: Sequence[str] | None = None
    publication: str | None = None
    wants_keys: Callable[[str], bool] = field(default=lambda payload: True)
    max_keys: int = 1000
    encoding: str = "utf-8"


class Table:
    """The table (a TRUNCATE has several) that a row's beginning names.

    ``prefix`` is that beginning: a row that starts with the same bytes is another row of the same
    table, written the same way, and what differs comes behind it. ``payloads`` is empty for
    tables that are not wanted.
    """

    __slots__ = ("payloads", "prefix")

    def __init__(self, payloads: tuple[str, ...]) -> None:
        self.payloads = payloads
        self.prefix = b""

    @property
    def has_key(self) -> bool:
        """Whether primary keys are collected."""
        raise NotImplementedError


T = TypeVar("T", bound=Table)


class Decoder(ABC, Generic[T]):
    """One plugin's messages, read out of the stream.

    ``lsn`` is the end of the newest message taken.
    """

    plugin: ClassVar[str]

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: DecoderOptions) -> None:
        self.sink = sink
        self.options = options
        self.wanted = TableFilter(options.tables)
        self.lsn = 0
        self.unknown: set[str] = set()
        """Payloads whose keys are wanted and whose primary key is not known, or not as the stream
        has it."""
        self.primary_keys = primary_keys
        self.proves_keys = False
        """Whether its messages show where a table has not the key that is known."""
        self._others = _OTHER_CHARACTERS.get(options.encoding, frozenset())
        self._has_objected = False

    @staticmethod
    @abstractmethod
    def start_options(options: DecoderOptions, server_version: int) -> Mapping[str, str]:
        """The plugin's options for START_REPLICATION."""

    def scan(self, buffer: bytes, pos: int) -> int:
        """Take the plugin's messages that stand complete in ``buffer[pos:]``.

        Stops at the first byte that is not one, and returns its position. Raises DecodeError
        for a message that the plugin cannot have written.

        This is the hot loop: a row of the table of the row before costs two calls and no look-up
        (three with a key to read), and the sink is told once of all of them.
        """
        end = len(buffer)
        last_start = end - HEADER
        unpack, startswith, collect = _MESSAGE.unpack_from, buffer.startswith, self.collect
        most = self.options.max_keys
        table: T | None = None
        prefix, size = _NO_ROW, 0
        count = 0
        keys: list[Key] | None = None
        newest = -1
        while pos < last_start:
            kind, length, sub = unpack(buffer, pos)
            start = pos + HEADER
            stop = pos + 1 + length
            if kind != _COPY_DATA or sub != _XLOG_DATA or not start < stop <= end:
                break
            if not startswith(prefix, start, stop):
                found = self.table_of_row(buffer, start, stop)
                if found is not table and table is not None:
                    self._tell(table, count, keys)
                if found is None:
                    table, prefix = None, _NO_ROW
                    self.lsn = _END_LSN.unpack_from(buffer, pos)[0] or self.lsn
                    self.take(buffer[start:stop])
                    newest = pos
                    pos = stop
                    continue
                if found is not table:
                    table, count, keys = found, 0, self._keys_for(found)
                prefix = found.prefix
                size = len(prefix)
            count += 1
            if keys is not None and (
                len(keys) > most or not collect(keys, table, buffer, start + size, stop)  # type: ignore[arg-type]
            ):
                keys = None
            newest = pos
            pos = stop
        if table is not None:
            self._tell(table, count, keys)
        if newest >= 0:
            self.lsn = _END_LSN.unpack_from(buffer, newest)[0] or self.lsn
        return pos

    def _keys_for(self, table: T) -> list[Key] | None:
        """Where to collect the keys of a run of rows; None if nobody wants them."""
        if table.has_key and self.sink.wants_keys(table.payloads[0]):
            return []
        return None

    def _tell(self, table: T, count: int, keys: list[Key] | None) -> None:
        for payload in table.payloads:
            self.sink.rows(payload, count, keys)

    @abstractmethod
    def table_of_row(self, buffer: bytes, start: int, stop: int) -> T | None:
        """The table of the message in ``buffer[start:stop]``, with its ``prefix`` set to what
        the message begins with; None if it is not a row of one table."""

    @abstractmethod
    def collect(self, keys: list[Key], table: T, buffer: bytes, pos: int, stop: int) -> bool:
        """Add the keys of the row whose ``table.prefix`` ends at ``pos``; False if they cannot
        be told. The table is one that ``has_key``."""

    @abstractmethod
    def take(self, body: bytes) -> None:
        """Take a message that is not a row; ``lsn`` is its end already."""

    @abstractmethod
    def take_prefix(self, payload: bytes) -> None:
        """Take a message of which only the beginning is at hand, a row too long to hold."""

    def set_primary_keys(self, primary_keys: PrimaryKeys) -> None:
        """Use these primary keys from the next message on.

        They must be those of the tables as the messages to come have them: a plugin that writes
        no more than names does not say when a table has got another key.
        """
        self.primary_keys = primary_keys
        self.unknown.clear()
        self.forget_tables()

    def forget_keys(self) -> None:
        """Tell no keys from the next message on, until `set_primary_keys`."""
        self.set_primary_keys({})

    @abstractmethod
    def forget_tables(self) -> None:
        """Drop what was derived from the primary keys."""

    def key_columns(self, payload: str) -> Sequence[KeyColumn] | None:
        """The primary-key columns to collect for a table, or None to collect none."""
        if not self.options.wants_keys(payload):
            return None
        columns = self.primary_keys.get(payload)
        if columns is None:
            self.doubt(payload)
        return columns or None

    def nudge(self, content: str) -> None:
        """Tell of a message with our prefix, if an own nudge can have its content.

        Anybody may send others, so that is worth one line a connection.
        """
        why_not = objection(content)
        if not why_not:
            self.sink.message(content)
        elif not self._has_objected:
            self._has_objected = True
            log.warning(
                "A message with the prefix %r, %r, is not an own nudge and is ignored, as others"
                " like it will be: %s.",
                EMIT_PREFIX, content[:80], why_not,
            )  # fmt: skip

    def doubt(self, payload: str) -> None:
        """Note that a table's primary key is not the one that is known."""
        if len(self.unknown) < MAX_TABLES:
            self.unknown.add(payload)

    def text(self, raw: bytes) -> str:
        """A name or a content in the database's encoding."""
        try:
            return raw.decode(self.options.encoding)
        except UnicodeDecodeError:
            return raw.decode(self.options.encoding, "backslashreplace")

    def key_text(self, raw: bytes) -> str | None:
        """A key's text in the database's encoding, or None if others may read another one."""
        try:
            text = raw.decode(self.options.encoding)
        except UnicodeDecodeError:
            return None
        return text if self.is_everyones(text) else None

    def is_everyones(self, text: str) -> bool:
        """Whether PostgreSQL makes the same characters of the database's bytes as Python did."""
        return self._others.isdisjoint(text)


def unix_time(text: str) -> float:
    """Unix seconds of a ``timestamptz`` as PostgreSQL prints it with ``DateStyle`` ISO."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DecodeError(f"{text[:40]!r} is not a timestamp") from None
    if moment.tzinfo is None:
        raise DecodeError(f"the timestamp {text!r} has no time zone")
    return moment.timestamp()


_CODECS = {
    "SQL_ASCII": "utf-8",
    "UTF8": "utf-8",
    "EUC_JP": "euc_jp",
    "EUC_CN": "gb2312",
    "EUC_KR": "euc_kr",
    "EUC_JIS_2004": "euc_jis_2004",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "WIN866": "cp866",
    "WIN874": "cp874",
    **{f"LATIN{n}": f"iso8859-{n}" for n in range(1, 5)},
    **{f"ISO_8859_{n}": f"iso8859-{n}" for n in range(5, 9)},
    **{f"WIN{n}": f"cp{n}" for n in range(1250, 1259)},
}


_OTHER_CHARACTERS = {
    "euc_jp": frozenset("\u301c\u2016\u2212\xa2\xa3\xac\xa6"),
    "euc_jis_2004": frozenset("\uffe3\u2015\uffe5\u2985\u2986"),
}
"""What Python reads where PostgreSQL reads another character: of EUC_JP's 0xA1C1 the one makes
U+301C, the other U+FF5E. Source: a comparison of all of both, by ``convert_from``."""


def python_codec(server_encoding: str) -> str:
    """The Python codec of a PostgreSQL server encoding.

    Source: PostgreSQL documentation, "Supported Character Sets". An encoding Python does not
    have is read as ASCII, its other bytes escaped.
    """
    return _CODECS.get(server_encoding, "ascii")
