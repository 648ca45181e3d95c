"""Connects a receiver that does what $RUDE says."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.apps import AppConfig
from django.db import connection, transaction

from django_pgnudge.signals import tables_changed


def raise_exit(**given: Any) -> None:
    sys.exit(3)


def raise_interrupt(**given: Any) -> None:
    raise KeyboardInterrupt


def close_connection(**given: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.connection.close()


def break_transaction(**given: Any) -> None:
    transaction.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1/0")


def leave_atomic_open(**given: Any) -> None:
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM prices")


def count_rows(**given: Any) -> None:
    """What a good receiver does: it must find a connection that works."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT price FROM prices WHERE id = 1")
        sys.stdout.write("price is {}\n".format(*(cursor.fetchone() or ["none"])))
        sys.stdout.flush()


class RudeConfig(AppConfig):
    name = "tests.rude"

    def ready(self) -> None:
        tables_changed.connect(count_rows)
        tables_changed.connect(globals()[os.environ["RUDE"]])
