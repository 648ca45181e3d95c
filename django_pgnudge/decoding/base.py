"""What the decoders share: the `Sink` they report to, their options, the loop over a buffer."""

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
"""The prefix of logical messages that are own nudges of an application."""

MAX_TABLES = 10_000
"""How many tables a decoder remembers at once, by their names in messages."""

MAX_NAME = 4096
"""The longest text with table names, in bytes, that a decoder remembers."""

MAX_KEY_TEXT = 8192
"""The longest text of a primary-key column, in bytes. A row with a longer one counts as any row."""

# CopyData carrying XLogData: 'd', length, 'w', start LSN, end LSN, server clock, payload.
_MESSAGE = Struct("!BIB")
_COPY_DATA, _XLOG_DATA = b"dw"
_END_LSN = Struct("!14xQ")
HEADER = 30

# Means that the previous message was not a row: no message begins with these bytes.
_NO_ROW = b"\0no row"


class Sink(Protocol):
    """The receiver of a decoder's results, such as the feed's coalescer.

    For a committed transaction, ``rows`` and ``message`` come between ``begin`` and ``commit``. The
    server may stream a transaction in blocks before it ends. Each block comes between
    ``stream_start`` and ``stream_stop``; other transactions and blocks may come between two blocks.
    ``stream_commit`` or ``stream_abort`` ends a streamed transaction.
    """

    def begin(self, xid: int) -> None:
        """A transaction with this 32-bit top-level xid starts."""

    def rows(self, payload: str, count: int, keys: list[Key] | None) -> None:
        """``count`` rows of one table changed; ``keys`` is None if any row may have changed."""

    def wants_keys(self, payload: str) -> bool:
        """Whether keys of this table in the open transaction are still useful.

        False once there are too many keys, or once any row may have changed.
        """

    def message(self, content: str) -> None:
        """The transaction contains an application's own nudge."""

    def commit(self, lsn: int, committed_at: float) -> None:
        """The transaction ends. Its commit record ends at ``lsn``.

        ``committed_at`` is the server's time in Unix seconds.
        """

    def stream_start(self, xid: int) -> None:
        """A block of the transaction with this 32-bit top-level xid starts."""

    def stream_made_by(self, xid: int) -> None:
        """This subtransaction, or the transaction itself, made the next changes in the block."""

    def stream_stop(self) -> None:
        """The block ends."""

    def stream_commit(self, xid: int, lsn: int, committed_at: float) -> None:
        """A streamed transaction has committed; the arguments are those of `commit`."""

    def stream_abort(self, xid: int, subxid: int) -> None:
        """This subtransaction of a streamed transaction was rolled back; all of it if ``xid``."""


class TableFilter:
    """Selects tables by name; ``*`` means any schema or any table."""

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
    """The settings that a decoder gets from its feed.

    ``wants_keys`` says for which payloads to collect primary keys. With more than ``max_keys`` keys
    of a table the sink drops them. ``encoding`` is the Python codec of the database's encoding,
    which textual plugins use.
    """

    tables: Sequence[str] | None = None
    publication: str | None = None
    wants_keys: Callable[[str], bool] = field(default=lambda payload: True)
    max_keys: int = 1000
    encoding: str = "utf-8"


class Table:
    """The table that the beginning of a row names; a TRUNCATE names several.

    ``prefix`` is that beginning. A message that starts with the same bytes is a row of the same
    table in the same form, and differs only after the prefix. ``payloads`` is empty for tables that
    are not wanted.
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
    """Reads one plugin's messages out of the stream.

    ``lsn`` is the end of the newest message that was read.
    """

    plugin: ClassVar[str]

    def __init__(self, sink: Sink, primary_keys: PrimaryKeys, options: DecoderOptions) -> None:
        self.sink = sink
        self.options = options
        self.wanted = TableFilter(options.tables)
        self.lsn = 0
        self.stale_keys: set[str] = set()
        """Payloads whose keys are wanted, but whose known primary key is missing or differs from
        the stream."""
        self.primary_keys = primary_keys
        self.proves_keys = False
        """Whether its messages show when a table's primary key differs from the known one."""
        self._others = _OTHER_CHARACTERS.get(options.encoding, frozenset())
        self._has_objected = False

    @staticmethod
    @abstractmethod
    def start_options(options: DecoderOptions, server_version: int) -> Mapping[str, str]:
        """The plugin's options for START_REPLICATION."""

    def scan(self, buffer: bytes, pos: int) -> int:
        """Read the plugin's complete messages from ``buffer[pos:]``.

        Returns the position of the first byte that belongs to no such message. Raises DecodeError
        for a message that the plugin cannot have written.

        This is the hot loop. Another row of the same table costs two calls (three to read its key)
        and no look-up. The sink is told once about all rows of such a run.
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
        """An empty list for the keys of a run of rows; None if the keys are not wanted."""
        if table.has_key and self.sink.wants_keys(table.payloads[0]):
            return []
        return None

    def _tell(self, table: T, count: int, keys: list[Key] | None) -> None:
        for payload in table.payloads:
            self.sink.rows(payload, count, keys)

    @abstractmethod
    def table_of_row(self, buffer: bytes, start: int, stop: int) -> T | None:
        """The table of the message in ``buffer[start:stop]``; None if it is not a row of one table.

        Sets the table's ``prefix`` to the beginning of the message.
        """

    @abstractmethod
    def collect(self, keys: list[Key], table: T, buffer: bytes, pos: int, stop: int) -> bool:
        """Add the keys of the row whose ``table.prefix`` ends at ``pos``; False if unknown.

        Called only for a table that ``has_key``.
        """

    @abstractmethod
    def take(self, body: bytes) -> None:
        """Read a message that is not a row; ``lsn`` is already its end."""

    @abstractmethod
    def take_prefix(self, payload: bytes) -> None:
        """Read the beginning of a message that is too long to hold, usually a row."""

    def set_primary_keys(self, primary_keys: PrimaryKeys) -> None:
        """Use these primary keys from the next message on.

        They must match the tables as the next messages describe them: a plugin that writes only
        names does not show that a table's key was changed.
        """
        self.primary_keys = primary_keys
        self.stale_keys.clear()
        self.forget_tables()

    def forget_keys(self) -> None:
        """Report no keys from the next message on, until `set_primary_keys` is called."""
        self.set_primary_keys({})

    @abstractmethod
    def forget_tables(self) -> None:
        """Drop everything that was derived from the primary keys."""

    def key_columns(self, payload: str) -> Sequence[KeyColumn] | None:
        """The primary-key columns to collect for a table; None to collect no keys."""
        if not self.options.wants_keys(payload):
            return None
        columns = self.primary_keys.get(payload)
        if columns is None:
            self.doubt(payload)
        return columns or None

    def nudge(self, content: str) -> None:
        """Report a message with our prefix, if its content can be an own nudge's.

        Anybody may send others, so they cause only one log line a connection.
        """
        why_not = objection(content)
        if not why_not:
            self.sink.message(content)
        elif not self._has_objected:
            self._has_objected = True
            log.warning(
                "A message with the prefix %r, %r, is not an own nudge and is ignored: %s. Others"
                " like it are ignored without a log line.",
                EMIT_PREFIX, content[:80], why_not,
            )  # fmt: skip

    def doubt(self, payload: str) -> None:
        """Record that a table's primary key differs from the known one."""
        if len(self.stale_keys) < MAX_TABLES:
            self.stale_keys.add(payload)

    def text(self, raw: bytes) -> str:
        """A name or a content in the database's encoding."""
        try:
            return raw.decode(self.options.encoding)
        except UnicodeDecodeError:
            return raw.decode(self.options.encoding, "backslashreplace")

    def key_text(self, raw: bytes) -> str | None:
        """A key's text in the database's encoding; None if PostgreSQL may read it differently."""
        try:
            text = raw.decode(self.options.encoding)
        except UnicodeDecodeError:
            return None
        return text if self.is_everyones(text) else None

    def is_everyones(self, text: str) -> bool:
        """Whether PostgreSQL decodes the database's bytes to the same characters as Python."""
        return self._others.isdisjoint(text)


def unix_time(text: str) -> float:
    """The Unix seconds of a ``timestamptz`` that PostgreSQL printed with ``DateStyle`` ISO."""
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
"""Characters that Python decodes where PostgreSQL decodes others. Example: for EUC_JP's 0xA1C1
Python gives U+301C, and PostgreSQL gives U+FF5E. Source: a comparison of all characters with
``convert_from``."""


def python_codec(server_encoding: str) -> str:
    """The Python codec of a PostgreSQL server encoding.

    Source: PostgreSQL documentation, "Supported Character Sets". An encoding Python does not
    have is read as ASCII, its other bytes escaped.
    """
    return _CODECS.get(server_encoding, "ascii")
