"""What the benchmarks of the feed write: tables, big transactions and small ones, a sentinel.

The sentinel is a table whose one row is committed last: whoever has seen it has seen the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from servers.postgres import Postgres

from benchmarks.local import choose_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DATABASE",
    "PUBLICATION",
    "SENTINEL",
    "SMALL",
    "TABLES",
    "empty",
    "running_server",
    "write_one",
    "write_small",
]

DATABASE: Final = "rows"
PUBLICATION: Final = "everything"
SENTINEL: Final = "sentinel"
SMALL: Final = 10
"""Rows of a small transaction."""

_WIDE: Final = """id int PRIMARY KEY, slug varchar(60), title text, body text,
    price numeric(10,2), active boolean, updated timestamptz"""
_WIDE_VALUES: Final = """n, 'product-' || n, repeat('title ', 8) || n,
    repeat('words of a text ', 22), n % 1000, true, now()"""
TABLES: Final = {
    "narrow": ("id int PRIMARY KEY, v int", "n, n"),
    "wide": (_WIDE, _WIDE_VALUES),
}
"""Columns, and their values for the row number n."""

SETTINGS: Final = {
    "wal_sender_timeout": 0,
    # Nothing that comes and goes while somebody is measured.
    "autovacuum": "off",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}


@contextlib.contextmanager
def running_server(name: str | None) -> Iterator[Postgres]:
    """A server with the tables in it."""
    with Postgres(choose_installation(name), settings=SETTINGS) as server:
        server.create_database(DATABASE)
        with server.connect(DATABASE) as connection:
            for table, (columns, _) in TABLES.items():
                connection.execute(f"CREATE TABLE {table} ({columns})".encode())
            connection.execute(f"CREATE TABLE {SENTINEL} (id int PRIMARY KEY)".encode())
            connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES".encode())
        yield server


def empty(server: Postgres, table: str) -> None:
    """Make the table as it was at first."""
    server.execute(f"TRUNCATE {table}, {SENTINEL}", DATABASE)
    server.execute("CHECKPOINT")


def write_one(server: Postgres, table: str, rows: int) -> tuple[float, float]:
    """One transaction, then the sentinel: when the COMMIT of each returned."""
    with server.connect(DATABASE) as connection:
        connection.execute("BEGIN")
        connection.execute(_insert(table, "1", str(rows)).encode())
        connection.execute("COMMIT")
        big = time.monotonic()
        connection.execute(f"INSERT INTO {SENTINEL} VALUES (1)".encode())
        return big, time.monotonic()


def write_small(server: Postgres, table: str, rows: int, sender: int) -> float:
    """Many small ones, then the sentinel, while the walsender is stopped: when it went on."""
    os.kill(sender, signal.SIGSTOP)
    try:
        with server.connect(DATABASE) as connection:
            connection.execute(
                f"""DO $$ BEGIN
                    FOR i IN 1 .. {rows} BY {SMALL} LOOP
                        {_insert(table, "i", f"least(i + {SMALL - 1}, {rows})")};
                        COMMIT;
                    END LOOP;
                END $$""".encode()
            )
            connection.execute(f"INSERT INTO {SENTINEL} VALUES (1)".encode())
        went_on = time.monotonic()
    finally:
        os.kill(sender, signal.SIGCONT)
    return went_on


def _insert(table: str, first: str, last: str) -> str:
    values = TABLES[table][1]
    return f"INSERT INTO {table} SELECT {values} FROM generate_series({first}, {last}) n"
