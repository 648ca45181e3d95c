"""The fifty tables by name, known to processes that have no Django, too."""

from __future__ import annotations

from typing import Final

__all__ = ["APP", "CREATE", "KEYS", "PAYLOADS", "ROWS", "STORED", "TABLES", "model_name"]

APP: Final = "speed"
TABLES: Final = tuple(f"stock_{number:02}" for number in range(50))
PAYLOADS: Final = tuple(f"public.{table}" for table in TABLES)

ROWS: Final = 100
"""Rows of each table; their ids begin with 1."""

CREATE: Final = "; ".join(
    f"CREATE TABLE {table} (id integer PRIMARY KEY, amount bigint NOT NULL);"
    f" INSERT INTO {table} SELECT number, 0 FROM generate_series(1, {ROWS}) AS number"
    for table in TABLES
)

KEYS: Final = tuple(f"table:{table}" for table in TABLES)
"""The one cache key that a change of a table deletes."""

STORED: Final = tuple(f":1:{key}" for key in KEYS)
"""The same as Redis has them, with Django's prefix and version."""


def model_name(table: str) -> str:
    """The name of a table's model."""
    return table.title().replace("_", "")
