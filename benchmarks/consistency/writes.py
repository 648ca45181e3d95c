"""Writers: random rows by every path a write can take, and a note of each commit.

A version is drawn from the sequence while its row is locked, so versions grow in the order of
commits. Locks are not waited for long: what waits for a synchronous standby keeps its own.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import BigIntegerField, Func

from benchmarks.consistency.records import UNKNOWN, Log, Seen, Write
from benchmarks.consistency.site.models import ROWS, SEQUENCE, Sale

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

NEXT: Final = f"nextval('{SEQUENCE}')"
LOCK_TIMEOUT: Final = "150ms"
SALES_LOCK: Final = 4711
"""The advisory lock that puts batches of sales in order."""

Path_: TypeAlias = Callable[["CursorWrapper", random.Random, str], "list[Seen]"]


class NextVersion(Func):
    """The sequence, in an UPDATE by QuerySet.update()."""

    template = NEXT
    arity = 0
    output_field = BigIntegerField()


def _ids(rng: random.Random, table: str, most: int = 3) -> list[int]:
    read = ROWS[table][2]
    return sorted(rng.sample(range(1, read + 1), rng.randint(1, most)))


def _seen(table: str, rows: Sequence[tuple[int, int]]) -> list[Seen]:
    read = ROWS[table][2]
    return [Seen(table, row, version) for row, version in rows if row <= read]


def _note(rng: random.Random) -> str:
    return "x" * rng.randint(0, 200)


def save(_: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """select_for_update() and save()."""
    model = ROWS[table][0]
    seen = []
    for item in model.objects.select_for_update().filter(id__in=_ids(rng, table)):
        item.version = _versions(1)[0]
        item.note = _note(rng)
        item.save()
        seen.append(Seen(table, item.id, item.version))
    return seen


def update(_: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """QuerySet.update()."""
    rows = ROWS[table][0].objects.filter(id__in=_ids(rng, table))
    rows.update(version=NextVersion(), note=_note(rng))
    # A row that another transaction deletes and puts back is passed over by the UPDATE, and
    # seen by this SELECT under a version that is not ours; its real writer has noted it.
    return _seen(table, list(rows.values_list("id", "version")))


def raw(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """SQL by hand."""
    cursor.execute(
        f"UPDATE {table} SET version = {NEXT}, note = %s WHERE id = ANY(%s) RETURNING id, version",
        [_note(rng), _ids(rng, table)],
    )
    return _seen(table, cursor.fetchall())


def copy(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """DELETE, and COPY of the same rows."""
    cursor.execute(f"DELETE FROM {table} WHERE id = ANY(%s) RETURNING id", [_ids(rng, table, 6)])
    return _copy_in(cursor, table, sorted(row for (row,) in cursor.fetchall()))


def truncate(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """TRUNCATE, and all rows that were there again by COPY."""
    cursor.execute(f"LOCK TABLE {table}")
    cursor.execute(f"SELECT id FROM {table} ORDER BY id")
    rows = [row for (row,) in cursor.fetchall()]
    cursor.execute(f"TRUNCATE {table}")
    return _copy_in(cursor, table, rows)


def move(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """Rows from one partition or child to another."""
    if table == "part":
        cursor.execute(
            f"UPDATE part SET version = {NEXT}, zone = %s WHERE id = ANY(%s) RETURNING id, version",
            [rng.randint(1, 3), _ids(rng, table)],
        )
        return _seen(table, cursor.fetchall())
    # Locked, so that the child does not leave meanwhile.
    cursor.execute("LOCK TABLE child IN ROW EXCLUSIVE MODE")
    cursor.execute("SELECT FROM pg_inherits WHERE inhrelid = 'child'::regclass")
    to = rng.choice(("parent", "child")) if cursor.fetchone() else "parent"
    cursor.execute("DELETE FROM parent WHERE id = ANY(%s) RETURNING id", [_ids(rng, table)])
    rows = sorted(row for (row,) in cursor.fetchall())
    pairs = list(zip(rows, _versions(len(rows)), strict=True))
    for pair in pairs:
        cursor.execute(f"INSERT INTO {to} (id, version) VALUES (%s, %s)", pair)
    return _seen(table, pairs)


def truncate_leaf(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """TRUNCATE of one partition, and its rows again in the first."""
    leaf = rng.choice(("part_1", "part_3"))
    cursor.execute(f"LOCK TABLE {leaf}")
    cursor.execute(f"SELECT id FROM {leaf} ORDER BY id")
    rows = [row for (row,) in cursor.fetchall()]
    cursor.execute(f"TRUNCATE {leaf}")
    return _copy_in(cursor, table, rows)


def big(cursor: CursorWrapper, rng: random.Random, _: str) -> list[Seen]:
    """Thousands of rows in one transaction; the stock is the table that has them."""
    cursor.execute(
        f"UPDATE stock SET version = {NEXT}, note = %s WHERE id <= %s RETURNING id, version",
        [_note(rng), rng.choice([500, 2000, 3000])],
    )
    return _seen("stock", cursor.fetchall())


def savepoint(cursor: CursorWrapper, rng: random.Random, table: str) -> list[Seen]:
    """One part kept, one rolled back, one in a savepoint that is released."""
    kept = raw(cursor, rng, table)
    with contextlib.suppress(_RollBackError), transaction.atomic():
        raw(cursor, rng, table)
        raise _RollBackError
    with transaction.atomic():
        return kept + update(cursor, rng, table)


class _RollBackError(Exception):
    pass


def sales(cursor: CursorWrapper, rng: random.Random, _: str) -> list[Seen]:
    """bulk_create() of a batch; older ones go."""
    version = _sales_version(cursor)
    Sale.objects.bulk_create([Sale(version=version) for _ in range(rng.randint(1, 200))])
    return _sales_after(cursor, version)


def copied_sales(cursor: CursorWrapper, rng: random.Random, _: str) -> list[Seen]:
    """COPY of thousands of rows; older ones go."""
    version = _sales_version(cursor)
    with cursor.copy("COPY sale (version) FROM STDIN") as lines:
        for _number in range(rng.choice([1, 100, 4000])):
            lines.write_row((version,))
    return _sales_after(cursor, version)


def _sales_version(cursor: CursorWrapper) -> int:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SALES_LOCK])
    return _versions(1)[0]


def _sales_after(cursor: CursorWrapper, version: int) -> list[Seen]:
    cursor.execute("DELETE FROM sale WHERE version < %s", [version - 500])
    cursor.execute("SELECT count(*) FROM sale")
    return [Seen("sale", 0, version, cursor.fetchone()[0])]


def _copy_in(cursor: CursorWrapper, table: str, rows: Sequence[int]) -> list[Seen]:
    pairs = list(zip(rows, _versions(len(rows)), strict=True))
    with cursor.copy(f"COPY {table} (id, version, note) FROM STDIN") as lines:
        for row, version in pairs:
            lines.write_row((row, version, ""))
    return _seen(table, pairs)


def _versions(number: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {NEXT} FROM generate_series(1, %s)", [number])
        return [version for (version,) in cursor.fetchall()]


PATHS: Final[dict[str, tuple[Path_, float]]] = {
    "save": (save, 5), "update": (update, 5), "raw": (raw, 5), "copy": (copy, 3),
    "truncate": (truncate, 0.5), "move": (move, 4), "truncate leaf": (truncate_leaf, 0.5),
    "big": (big, 0.5), "savepoint": (savepoint, 3), "sales": (sales, 2),
    "copied sales": (copied_sales, 0.7),
}  # fmt: skip
ONLY: Final[dict[str, tuple[str, ...]]] = {
    "big": ("stock",), "move": ("part", "parent"), "truncate leaf": ("part",),
}  # fmt: skip
"""Which tables some of them are for."""
SYNC_REP: Final = 0.06
"""How many of the commits wait for a standby that does not exist."""


class Writer:
    """Writes until told to stop, in a thread with a connection of its own.

    plan: "mixed"; or one of the situations of `--break`: "slow commits" makes every COMMIT wait
    for a standby, and then leaves the row alone for longer than the lease; "calm" changes one row
    at a time by SQL, and leaves all alone for longer than the lease; "prices" does so with prices;
    "nothing" leaves it to the writer of DDL.
    """

    def __init__(
        self, log: Log, rng: random.Random, stop: threading.Event, *, plan: str, lease: float
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._rng = rng
        self._stop = stop
        self._plan = plan
        self._lease = lease

    def run(self) -> None:
        calm = {"slow commits": "product", "calm": "product", "prices": "price"}
        while not self._stop.is_set():
            if self._plan in calm:
                wait = self._rng.uniform(0.8, 1.2) if self._plan == "slow commits" else 0.0
                self.transaction("raw", calm[self._plan], wait)
                self._stop.wait(2 * self._lease + 0.5)
            elif self._plan == "nothing":
                self._stop.wait()
            else:
                self._burst()
        connection.close()

    def _burst(self) -> None:
        """Some seconds on one table, or none at all: what is stale shows in the quiet."""
        table = self._rng.choice([*ROWS, "sale", "nothing"])
        until = time.monotonic() + self._rng.uniform(0.5, 2 * self._lease)
        if table == "nothing":
            self._stop.wait(until - time.monotonic())
            return
        names = [
            name for name in PATHS if ("sale" in name) == (table == "sale")
            and table in ONLY.get(name, (table,))
        ]  # fmt: skip
        weights = [PATHS[name][1] for name in names]
        pause = self._rng.choice([0.0, 0.02, 0.1, 0.5])
        while time.monotonic() < until and not self._stop.is_set():
            wait = self._rng.uniform(0.05, 1.5) if self._rng.random() < SYNC_REP else 0.0
            self.transaction(self._rng.choices(names, weights)[0], table, wait)
            self._stop.wait(self._rng.uniform(0, 2 * pause))

    def transaction(self, name: str, table: str, wait: float = 0.0) -> None:
        """One transaction; with `wait` its COMMIT waits that many seconds for a standby."""
        seen: list[Seen] = []
        begun = 0.0
        cancel: _Cancel | None = None
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                if wait:
                    cursor.execute("SET LOCAL synchronous_commit = on")
                seen = PATHS[name][0](cursor, self._rng, table)
                if wait:
                    cancel = _Cancel(connection.connection, wait)
                begun = time.monotonic()
            ended = time.monotonic()
        except (DatabaseError, InterfaceError):
            lost = not connection.is_usable()
            self.counts["unknown" if begun else "broken off" if lost else "refused"] += 1
            if begun:
                self._note(name, begun, UNKNOWN, seen)
            if lost:
                connection.close()
                self._stop.wait(0.1)
        else:
            self.counts[name] += 1
            self.counts["waited for a standby"] += bool(wait)
            self._note(name, begun, ended, seen)
        finally:
            if cancel is not None:
                cancel.stop()

    def _note(self, name: str, begun: float, ended: float, seen: list[Seen]) -> None:
        newest = {(each.table, each.row): each for each in seen}
        if newest:
            self._log.add(Write(name, begun, ended, tuple(newest.values())))


class _Cancel:
    """Cancels what a connection waits for after a while, and again until it is left.

    A COMMIT that waits for a standby is cancelled by a query cancel: it warns, and has committed.
    """

    def __init__(self, target: Any, after: float) -> None:
        self._target = target
        self._after = after
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when no cancel is under way, so that none hits what comes next."""
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        delay = self._after
        while not self._left.wait(delay):
            delay = 0.05
            with contextlib.suppress(Exception):
                self._target.cancel_safe(timeout=2)
