"""Observed values under psycopg 2, and through a pooler that gives each transaction a session."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, connections, transaction
from servers.middlemen import PgBouncer

from django_pgnudge.reader.state import reader_state
from tests.fix_servers import missing
from tests.reader.test_observed import FAMILY, Observed, names
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake


def in_a_transaction() -> list[str]:
    with transaction.atomic():
        point = transaction.savepoint()
        Category.objects.count()
        transaction.savepoint_rollback(point)
        return names()


def after_an_error() -> list[str]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0 FROM shop_product")
    except Exception:
        return names()
    return names()


def writing() -> int:
    found = Product.objects.count()
    Category.objects.create(name="written")
    return found


def from_a_cursor() -> list[str]:
    return [each.name for each in Product.objects.iterator(chunk_size=2)]


def locking() -> list[str]:
    with transaction.atomic():
        return [each.name for each in Product.objects.select_for_update()]


CASES = {
    "plain": (names, True),
    "transaction": (in_a_transaction, True),
    "cursor": (from_a_cursor, True),
    "writing": (writing, False),
    "locking": (locking, False),
}
EXPECTED = (
    {case: kept for case, (_, kept) in CASES.items()},
    [
        "public.shop_category",
        "public.shop_product",
    ],
)


def outcome() -> tuple[dict[str, bool], list[str]]:
    """Which cases are kept, and what all that are read together."""
    kept = {case: Observed(function, case).is_kept() for case, (function, _) in CASES.items()}
    assert Category.objects.filter(name="written").count() == 3
    return kept, sorted(reader_state("default").learned.of(FAMILY) or ())


@pytest.mark.usefixtures("real_sessions")
def test_under_psycopg_3() -> None:
    Product.objects.bulk_create(Product(name=str(number)) for number in range(5))
    assert outcome() == EXPECTED
    assert not Observed(after_an_error).is_kept()


@pytest.mark.usefixtures("real_sessions")
def test_with_prepared_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**connection.settings_dict["OPTIONS"], "server_side_binding": True}
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {**options, "prepare_threshold": 0})
    try:
        assert Observed(names).is_kept()
    finally:
        connection.close()


def test_under_psycopg_2(django_postgres: Any) -> None:
    settings = {alias: dict(connections.settings[alias]) for alias in ("default", "other")}
    code = PSYCOPG2.format(settings={k: dict(v, OPTIONS={}) for k, v in settings.items()})
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[-3:] == ["psycopg2", repr(EXPECTED), ""], done.stderr


PSYCOPG2 = """
from tests import settings as s
s.DATABASES = {settings!r}
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import sys
sys.modules["psycopg"] = None
import django; django.setup()
from django.db import connection
connection.Database
del sys.modules["psycopg"]
from django_pgnudge.testing import faked
from tests.fix_nudged import asking_postgres
from tests.reader.test_observed_drivers import Product, outcome
with faked() as fake, asking_postgres(fake):
    Product.objects.bulk_create(Product(name=str(number)) for number in range(5))
    print(connection.Database.__name__, outcome(), sep="\\n")
"""


def test_through_a_pooler_in_transaction_mode(
    real_sessions: NudgeFake, any_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if PgBouncer.installed() is None:
        pytest.skip(missing("pgbouncer"))
    Product.objects.bulk_create(Product(name=str(number)) for number in range(5))
    with PgBouncer(any_postgres) as pooler:
        connection.close()
        settings = connections.settings["default"]
        monkeypatch.setitem(settings, "HOST", "127.0.0.1")
        monkeypatch.setitem(settings, "PORT", pooler.port)
        monkeypatch.setitem(settings, "DISABLE_SERVER_SIDE_CURSORS", True)
        try:
            assert outcome() == EXPECTED
        finally:
            connection.close()
