"""A copy of the prices in another database, which lags as a replica may."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from django.db import Error, connections, transaction

EVERY: Final = 5.0
"""Seconds; more than a lease."""

MAKE: Final = "CREATE TABLE price (id int PRIMARY KEY, version bigint, note text DEFAULT '')"


@contextlib.contextmanager
def lagging_copy() -> Iterator[None]:
    """Copy again and again, for as long as this lasts."""
    with connections["other"].cursor() as cursor:
        cursor.execute(MAKE)
    _copy()
    stop = threading.Event()
    thread = threading.Thread(target=_go_on, args=(stop,), name="copies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def _go_on(stop: threading.Event) -> None:
    while not stop.wait(EVERY):
        # A server that is away, or a table that has another name just then.
        with contextlib.suppress(Error):
            _copy()
        connections["default"].close()
        connections["other"].close()


def _copy() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT id, version FROM price")
        rows = cursor.fetchall()
    with transaction.atomic("other"), connections["other"].cursor() as cursor:
        cursor.execute("DELETE FROM price")
        cursor.executemany("INSERT INTO price (id, version) VALUES (%s, %s)", rows)
