"""Streams as a server sent them, recorded: `python -m tests.decoding.recorded` records anew.

Each is the stream of one plugin for 300 inserted rows, in one transaction or in 30, as CopyData
messages.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from pathlib import Path
from typing import Final

from django_pgnudge.decoding import DECODERS, DecoderOptions
from tests.wire import backend

FOLDER: Final = Path(__file__).with_name("recordings")
ROWS: Final = 300
TRANSACTIONS: Final = {"one": 1, "many": 30}
TABLES: Final = {
    "narrow": ("id int PRIMARY KEY, v int", "g, g % 100"),
    "wide": (
        "id int PRIMARY KEY, a text, b text, c timestamptz, d numeric, e text, f boolean",
        (
            "g, repeat('x', 90 + g % 7), repeat('y', 150), '2026-01-01 UTC', g * 1.5,"
            " repeat('z', 150 - g % 13), true"
        ),
    ),
}


def recording(plugin: str, table: str, transactions: str) -> bytes:
    """The stream."""
    return gzip.decompress(_file(plugin, table, transactions).read_bytes())


def _file(plugin: str, table: str, transactions: str) -> Path:
    return FOLDER / f"{plugin}-{table}-{transactions}.bin.gz"


def main() -> None:
    """Record all of them from a PostgreSQL of this machine that has every plugin."""
    from servers.postgres import Postgres, find_installations

    found = [each for each in find_installations(docker=False) if len(each.plugins) == 3]
    if not found:
        sys.exit("There is no PostgreSQL with all output plugins on this machine.")
    with Postgres(found[0]) as server:
        server.create_database("recordings")
        with server.connect("recordings") as connection:
            connection.execute("SET TimeZone TO 'UTC'")
            for table, (columns, _) in TABLES.items():
                connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute("CREATE PUBLICATION nudge FOR ALL TABLES")
            version = connection.info.server_version
            for plugin, table, many in itertools.product(DECODERS, TABLES, TRANSACTIONS):
                connection.execute(f"TRUNCATE {table}")
                connection.execute(
                    f"SELECT pg_create_logical_replication_slot('recordings', '{plugin}')"
                )
                step = ROWS // TRANSACTIONS[many]
                for first in range(1, ROWS + 1, step):
                    connection.execute(
                        f"INSERT INTO {table} SELECT {TABLES[table][1]}"
                        f" FROM generate_series({first}, {first + step - 1}) g"
                    )
                options = DECODERS[plugin].start_options(
                    DecoderOptions(publication="nudge"), version
                )
                words = [word for pair in options.items() for word in pair]
                rows = connection.execute(
                    "SELECT data FROM pg_logical_slot_get_binary_changes("
                    "'recordings', NULL, NULL, VARIADIC %s)",
                    [words],
                ).fetchall()
                connection.execute("SELECT pg_drop_replication_slot('recordings')")
                payloads = [data for (data,) in rows]
                stream = backend.stream(payloads)
                packed = gzip.compress(stream, mtime=0)
                _file(plugin, table, many).write_bytes(packed)
                print(f"{plugin} {table} {many}: {len(payloads)} messages, {len(stream)} bytes")


if __name__ == "__main__":
    main()
