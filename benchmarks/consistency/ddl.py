"""One writer of DDL: parts that leave a table and return, keys, identities, names, publications.

It alone changes the catalogs, and looks at them before each step, since the outcome of a COMMIT may
be unknown. What is written while a part is away, or a table has another name, becomes visible where
it is read with the COMMIT that brings it back.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connection, transaction

from benchmarks.consistency.history import GONE
from benchmarks.consistency.records import UNKNOWN, Log, Seen, Write
from benchmarks.consistency.writes import NEXT

LOCK_TIMEOUT: Final = "1s"


@dataclass(frozen=True, slots=True)
class Part:
    """What may leave a table."""

    table: str
    part: str
    leave: str
    come: str


PARTS: Final = (
    Part(
        "part", "part_2", "ALTER TABLE part DETACH PARTITION part_2",
        "ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES IN (2)",
    ),
    Part(
        "parent", "child", "ALTER TABLE child NO INHERIT parent",
        "ALTER TABLE child INHERIT parent",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class New:
    """What may be made below a table, holds some of its rows for a while, and is dropped."""

    table: str
    new: str
    make: str
    fill: str
    empty: str


NEWS: Final = (
    New(
        "part", "part_4", "CREATE TABLE part_4 PARTITION OF part FOR VALUES IN (4)",
        f"UPDATE part SET zone = 4, version = {NEXT} WHERE id <= 3 AND zone <> 2"
        " RETURNING id, version",
        f"UPDATE part SET zone = 1, version = {NEXT} WHERE zone = 4 RETURNING id, version",
    ),
    New(
        "parent", "young", "CREATE TABLE young (PRIMARY KEY (id)) INHERITS (parent)",
        "WITH gone AS (DELETE FROM parent WHERE id <= 3 RETURNING id)"
        f" INSERT INTO young (id, version) SELECT id, {NEXT} FROM gone RETURNING id, version",
        "WITH gone AS (DELETE FROM young RETURNING id)"
        f" INSERT INTO parent (id, version) SELECT id, {NEXT} FROM gone RETURNING id, version",
    ),
)  # fmt: skip

KEYED: Final = ("product", "price")
IDENTITIES: Final = ("FULL", "NOTHING", "DEFAULT")


class Ddl:
    """Works until told to stop, in a thread with a connection of its own; then all is as before."""

    def __init__(
        self, log: Log, rng: random.Random, stop: threading.Event, *, lease: float,
        publication: str | None, calm: bool = False,
    ) -> None:  # fmt: skip
        """``calm``: what is away stays so for longer than a lease."""
        self.counts: Counter[str] = Counter()
        self._log = log
        self._rng = rng
        self._stop = stop
        self._lease = lease
        self._publication = publication
        self._pauses = (2 * lease if calm else 0, 3 * lease if calm else 2 * lease)

    def run(self) -> None:
        actions: list[Callable[[], None]] = [
            self._leave_and_come, self._leave_and_come, self._leave_and_come_at_once,
            self._make_and_drop, self._change_under_another_name, self._without_a_key,
            self._identity,
        ]  # fmt: skip
        if self._publication:
            actions.append(self._unpublished)
        while not self._stop.wait(self._rng.uniform(0.1, self._lease)):
            self._rng.choice(actions)()
        connection.close()

    # What it does. Each is put right again, whatever happens.

    def _leave_and_come(self) -> None:
        part = self._rng.choice(PARTS)

        def leave(cursor: Any) -> list[Seen]:
            cursor.execute(part.leave)
            cursor.execute(f"SELECT id, {NEXT} FROM {part.part}")
            return [Seen(part.table, *row) for row in cursor.fetchall()]

        self._transaction(f"{part.part} leaves", leave, GONE)
        self._pause()
        self._surely(lambda: self._has_come(part), f"{part.part} comes", self._coming(part))

    def _leave_and_come_at_once(self) -> None:
        part = self._rng.choice(PARTS)

        def both(cursor: Any) -> list[Seen]:
            cursor.execute(part.leave)
            return self._coming(part)(cursor)

        self._transaction(f"{part.part} leaves and comes", both)

    def _coming(self, part: Part) -> Callable[[Any], list[Seen]]:
        def come(cursor: Any) -> list[Seen]:
            cursor.execute(f"UPDATE {part.part} SET version = {NEXT} RETURNING id, version")
            seen = [Seen(part.table, *row) for row in cursor.fetchall()]
            cursor.execute(part.come)
            return seen

        return come

    def _make_and_drop(self) -> None:
        new = self._rng.choice(NEWS)

        def make(cursor: Any) -> list[Seen]:
            cursor.execute(new.make)
            cursor.execute(new.fill)
            return [Seen(new.table, *row) for row in cursor.fetchall()]

        def drop(cursor: Any) -> list[Seen]:
            cursor.execute(f"LOCK TABLE {new.new}")
            cursor.execute(new.empty)
            seen = [Seen(new.table, *row) for row in cursor.fetchall()]
            cursor.execute(f"DROP TABLE {new.new}")
            return seen

        self._transaction(f"{new.new} is made", make)
        self._pause()
        there = f"SELECT to_regclass('{new.new}') IS NULL"
        self._surely(lambda: self._holds(there), f"{new.new} is dropped", drop)

    def _change_under_another_name(self) -> None:
        def rename(cursor: Any) -> list[Seen]:
            cursor.execute("ALTER TABLE price RENAME TO price_away")
            return []

        changed: dict[int, Seen] = {}

        def change(cursor: Any) -> list[Seen]:
            # Not to be seen under the name that is read.
            cursor.execute(
                f"UPDATE price_away SET version = {NEXT} WHERE id <= 4 RETURNING id, version"
            )
            changed.update({row: Seen("price", row, version) for row, version in cursor.fetchall()})
            return []

        def back(cursor: Any) -> list[Seen]:
            cursor.execute("ALTER TABLE price_away RENAME TO price")
            cursor.execute("SELECT id, version FROM price WHERE id <= 4")
            return [Seen("price", *row) for row in cursor.fetchall()]

        self._transaction("rename", rename)
        self._stop.wait(self._rng.uniform(0, 0.5))
        if not self._holds("SELECT to_regclass('price') IS NOT NULL"):
            self._transaction("change under another name", change)
        self._surely(
            lambda: self._holds("SELECT to_regclass('price') IS NOT NULL"), "rename back", back
        )

    def _without_a_key(self) -> None:
        table = self._rng.choice(KEYED)
        key = f"{table}_pkey"
        self._transaction("drop key", _run(f"ALTER TABLE {table} DROP CONSTRAINT {key}"))
        self._pause()
        self._surely(
            lambda: self._holds(
                f"SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = '{key}')"
            ),
            "add key",
            _run(f"ALTER TABLE {table} ADD CONSTRAINT {key} PRIMARY KEY (id)"),
        )

    def _identity(self) -> None:
        table = self._rng.choice((*KEYED, "part_1", "child"))
        identity = self._rng.choice(IDENTITIES)
        self._transaction("identity", _run(f"ALTER TABLE {table} REPLICA IDENTITY {identity}"))
        self._pause()
        self._surely(
            lambda: self._holds(
                f"SELECT relreplident = 'd' FROM pg_class WHERE oid = '{table}'::regclass"
            ),
            "identity back",
            _run(f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT"),
        )

    def _unpublished(self) -> None:
        name = self._publication
        table = self._rng.choice(KEYED)
        self._transaction("unpublish", _run(f"ALTER PUBLICATION {name} DROP TABLE {table}"))
        self._pause()
        self._surely(
            lambda: self._holds(
                f"SELECT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = '{name}'"
                f" AND tablename = '{table}')"
            ),
            "publish",
            _run(f"ALTER PUBLICATION {name} ADD TABLE {table}"),
        )

    # Inside.

    def _pause(self) -> None:
        self._stop.wait(self._rng.uniform(*self._pauses))

    def _has_come(self, part: Part) -> bool:
        return self._holds(
            f"SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = '{part.part}'::regclass)"
        )

    def _holds(self, sql: str) -> bool:
        """What the catalogs say; asked until they answer."""
        while True:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return bool(cursor.fetchone()[0])
            except (DatabaseError, InterfaceError):
                self._failed("catalog")

    def _surely(
        self, done: Callable[[], bool], name: str, work: Callable[[Any], list[Seen]]
    ) -> None:
        """Do it until it is done."""
        while not done():
            self._transaction(name, work)

    def _transaction(self, name: str, work: Callable[[Any], list[Seen]], path: str = "ddl") -> None:
        seen: list[Seen] = []
        begun = 0.0
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                seen = work(cursor)
                begun = time.monotonic()
            ended = time.monotonic()
        except (DatabaseError, InterfaceError):
            ended = UNKNOWN
            self._failed(name)
        else:
            self.counts[name] += 1
        if begun and seen:
            self._log.add(Write(path, begun, ended, tuple(seen)))

    def _failed(self, what: str) -> None:
        self.counts[f"{what}: failed"] += 1
        if not connection.is_usable():
            connection.close()
        time.sleep(0.05)


def _run(sql: str) -> Callable[[Any], list[Seen]]:
    def run(cursor: Any) -> list[Seen]:
        cursor.execute(sql)
        return []

    return run
