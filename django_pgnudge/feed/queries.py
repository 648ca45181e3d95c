"""The SQL that a feed sends to the server, and how it reads the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ProtocolError
from ..wire import LSN
from .changes import Transaction
from .visibility import Snapshot

FIRST_USER_OID = 16384
"""FirstNormalObjectId of access/transam.h: below it is what initdb made."""

VISIBILITY = """
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text,
       CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text END
"""

# The same, parsed and planned once: it is sent for every commit.
PREPARE_VISIBILITY = f"PREPARE pgnudge_snapshot AS {VISIBILITY}"
PREPARED_VISIBILITY = "EXECUTE pgnudge_snapshot"

# An asynchronous commit is visible before it is flushed, so this is the insert position.
LOG_END = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END::pg_catalog.text
"""

# The server streams what is flushed. A running transaction may have filled the buffers up to the
# insert position. The next commit flushes them, or the WAL writer, which takes seconds where little
# happens. The commit of a message flushes them at once; nothing reads this message.
FLUSH = """
SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_logical_emit_message(true, 'pgnudge flush', '') END::pg_catalog.text
"""

# Every transaction with an xid holds a lock on it until after it has become visible. A
# subtransaction's xid stands beside its parent's, which is the older; a prepared transaction
# belongs to no process.
RUNNING_XIDS = """
SELECT DISTINCT ON (l.virtualtransaction) l.transactionid::pg_catalog.text
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
  AND NOT pg_catalog.pg_is_in_recovery()
  AND (a.datname IS NULL OR a.datname = pg_catalog.current_database())
ORDER BY l.virtualtransaction, pg_catalog.age(l.transactionid) DESC
"""

# What a slot that is being made waits for: every transaction with an xid has to end.
BLOCKERS = """
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = {pid})::pg_catalog.text,
       (SELECT COALESCE(pg_catalog.string_agg(
                   DISTINCT COALESCE(pid::pg_catalog.text, 'prepared'), ', '), 'none')
        FROM pg_catalog.pg_locks
        WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted),
       pg_catalog.pg_is_in_recovery()::pg_catalog.text
"""

# A session is ended by its id and by the name of the slot that it makes.
END_MAKING = """
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity WHERE pid = {pid} AND pg_catalog.strpos(query, '{slot}') > 0
"""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a new snapshot on the server sees at one moment."""

    snapshot: Snapshot
    replayed: LSN | None
    """On a standby: how far the log was replayed. A standby's snapshots do not list the
    transactions in progress, but what was replayed is visible."""

    @classmethod
    def of(cls, rows: tuple[tuple[str | None, ...], ...]) -> Visibility:
        """Read the rows of `VISIBILITY`."""
        match rows:
            case ((str(snapshot), (str() | None) as replayed),):
                return cls(
                    Snapshot.parse(snapshot), None if replayed is None else LSN.parse(replayed)
                )
        raise ProtocolError(f"the server answered a query for its snapshot with {rows!r:.100}")

    def sees(self, transaction: Transaction) -> bool:
        """Whether a committed transaction of the stream is visible."""
        if self.replayed is not None:
            return transaction.lsn <= self.replayed
        return self.snapshot.sees(transaction.xid)


def running_xids(rows: Iterable[tuple[str | None, ...]]) -> frozenset[int]:
    """Read the rows of `RUNNING_XIDS`."""
    return frozenset(_number(row[0]) for row in rows)


def outcomes(snapshot: Snapshot, xids: Iterable[int]) -> str:
    """A query for which of these 32-bit xids did not abort, and for the log's end.

    One row a transaction, (xid, LSN); a last row with an xid of None is always there.
    """
    wide = ",".join(str(snapshot.widen(xid)) for xid in sorted(xids))
    return f"""
        SELECT x::pg_catalog.text, pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text
        FROM pg_catalog.unnest('{{{wide}}}'::pg_catalog.xid8[]) AS x
        WHERE pg_catalog.pg_xact_status(x) IS DISTINCT FROM 'aborted'
        UNION ALL SELECT NULL, pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text
    """  # noqa: S608  # digits only


def committed(rows: Iterable[tuple[str | None, ...]]) -> frozenset[int]:
    """Read the rows of `outcomes`: the 32-bit xids."""
    return frozenset(_number(xid) & 0xFFFFFFFF for xid, _ in rows if xid is not None)


def publication_exists(name: str) -> str:
    return f"SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = {literal(name)}"  # noqa: S608


def literal(text: str) -> str:
    """A string literal, for SQL with ``standard_conforming_strings`` and replication commands."""
    return "'" + text.replace("'", "''") + "'"


def _number(text: str | None) -> int:
    """A number of at most 64 bits from a query's rows."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 20:
        raise ProtocolError(f"the server answered with {text!r:.60} where a number belongs")
    return int(text)
