"""What the texts of a request's statements read, as EXPLAIN tells it: see `explained`."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from django.db import connection, connections, transaction

from django_pgnudge.log import forget_logged
from django_pgnudge.reader.state import reader_state
from django_pgnudge.reader.statements import first_word
from tests.shop.models import Category, Product
from tests.templatetags.observed_site import Site, execute, learned, products

if TYPE_CHECKING:
    from pathlib import Path

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions", "no_connections_closed", "takes_transcripts")

VIEWS = """
    CREATE VIEW cheap AS SELECT * FROM shop_product WHERE price < 10;
    CREATE VIEW cheaper AS SELECT * FROM cheap WHERE price < 5;
    CREATE TABLE vehicle (id int);
    CREATE TABLE car (doors int) INHERITS (vehicle);
    CREATE SCHEMA elsewhere;
    CREATE TABLE elsewhere.thing (id int);
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
"""

READS: dict[str, tuple[str, set[str]]] = {
    "a view over a view": ("SELECT count(*) FROM cheaper", {"public.shop_product"}),
    "a partitioned table": ("SELECT count(*) FROM shop_order", {"public.shop_order"}),
    "what is inherited": ("SELECT count(*) FROM vehicle", {"public.vehicle"}),
    "another schema": ("SELECT count(*) FROM elsewhere.thing", {"elsewhere.thing"}),
    "a constant false": ("SELECT 1 FROM shop_product WHERE false", {"public.shop_product"}),
    "an immutable function": ("SELECT twice(1) FROM shop_product", {"public.shop_product"}),
    "a comment and parentheses": (
        "-- what\n(SELECT 1 FROM shop_product) UNION (SELECT 2 FROM shop_category);",
        {"public.shop_category", "public.shop_product"},
    ),
    "TABLE": ("TABLE shop_product", {"public.shop_product"}),
    "a word in quotes": (
        "SELECT 'into', count(*) AS \"into\" FROM shop_product", {"public.shop_product"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", READS)
def test_every_relation_of_the_view_s_statements_is_a_dependency(shape: str) -> None:
    execute(VIEWS)
    sql, tables = READS[shape]
    site = Site(lambda: {"text": execute(sql)})
    assert site.is_kept()
    assert learned() == tables


FUNCTIONS = """
    CREATE FUNCTION hidden() RETURNS bigint LANGUAGE sql STABLE AS
        'SELECT count(*) FROM shop_category';
    CREATE FUNCTION in_plpgsql(int) RETURNS bigint LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT count(*) FROM shop_category); END';
    CREATE FUNCTION of_row(shop_product) RETURNS bigint LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT count(*) FROM shop_category); END';
    CREATE VIEW calling AS SELECT id, in_plpgsql(id::int) FROM shop_product;
    CREATE OPERATOR #### (LEFTARG = int, RIGHTARG = int, FUNCTION = two);
    CREATE VIEW operating AS SELECT 1 #### id::int AS found FROM shop_product;
    CREATE AGGREGATE added (int) (SFUNC = step, STYPE = bigint, INITCOND = '0');
    CREATE VIEW late AS SELECT * FROM shop_product WHERE now() > '2000-01-01';
"""
TWO = """
    CREATE FUNCTION two(int, int) RETURNS bigint LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT count(*) FROM shop_category); END';
    CREATE FUNCTION step(bigint, int) RETURNS bigint LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN $1 + (SELECT count(*) FROM shop_category); END';
"""

REASONS = {
    "SELECT hidden() FROM shop_product": "what hidden reads is only seen while it runs",
    "SELECT in_plpgsql(1) FROM shop_product": "what in_plpgsql reads",
    "SELECT p.of_row FROM shop_product p": "what of_row reads",
    'SELECT "in_plpgsql" (1)': "what in_plpgsql reads",
    "SELECT * FROM calling": "what in_plpgsql reads",
    "SELECT 1 #### 2 FROM shop_product": "what #### reads",
    "SELECT count(*) FROM operating": "what two reads",
    "SELECT added(id::int) FROM shop_product": "what added reads",
    "SELECT * FROM late": "the clock (now)",
    "SELECT now(), * FROM shop_product": "the clock (now)",
    "SELECT * FROM shop_product TABLESAMPLE SYSTEM (1)": "random values",
    "SELECT nextval('shop_product_id_seq')": "a sequence",
    "SELECT * FROM pg_class": "the server's own",
    "SHOW work_mem": "done more than read (SHOW)",
    "INSERT INTO shop_category (name) VALUES ('x')": "done more than read (INSERT)",
    "WITH x AS (DELETE FROM shop_category RETURNING 1) SELECT * FROM x": "did more than read",
    "SELECT * FROM shop_product FOR UPDATE": "did more than read",
    "SELECT 1 AS a INTO made FROM shop_product": "done more than read (SELECT)",
    "SELECT 1 FROM shop_product; DELETE FROM shop_category": "done more than read (SELECT)",
    "SET work_mem = '5MB'": "done more than read (SET)",
}


@pytest.mark.parametrize("sql", REASONS)
def test_what_no_plan_shows_is_rendered_each_time_and_said(
    sql: str, nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    execute(TWO + FUNCTIONS)
    runs = 0

    def view() -> dict[str, Any]:
        nonlocal runs
        runs += 1
        with transaction.atomic():
            execute(sql)
            transaction.set_rollback(True)
        return products()

    site = Site(view)
    assert not site.is_kept()
    assert REASONS[sql] in caplog.text
    assert caplog.text.count("fragment 'it'") == 1
    assert runs == 5


def test_a_cast_or_a_domain_that_calls_a_function_is_everywhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    execute(TWO)
    execute("CREATE TYPE pair AS (a int, b int)")
    execute(
        "CREATE FUNCTION paired(int) RETURNS pair LANGUAGE plpgsql STABLE AS"
        " 'BEGIN RETURN ((SELECT count(*) FROM shop_category), $1); END'"
    )
    site = Site(products)
    assert site.is_kept()
    execute("CREATE CAST (int AS pair) WITH FUNCTION paired(int) AS IMPLICIT")
    reader_state("default").tables.registry.generation += 1  # as in another epoch
    other = Site(products, "other")
    assert not other.is_kept()
    assert "what a cast reads" in caplog.text
    execute("DROP CAST (int AS pair)")
    execute("CREATE DOMAIN checked AS int CHECK (two(VALUE, VALUE) >= 0)")
    reader_state("default").tables.registry.generation += 1
    forget_logged()
    assert not other.is_kept()
    assert "the constraint of a domain" in caplog.text


PARAMS: dict[str, tuple[str, list[Any]]] = {
    "a list": ("id = ANY(%s)", [[1, 2]]),
    "a tuple of texts": ("name = ANY(%s)", [["a", "b's %"]]),
    "dates": ("%s < %s", [dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)]),
    "a duration and a time": ("%s > %s AND %s IS NOT NULL", [
        dt.timedelta(1), dt.timedelta(2), dt.time(1)]),
    "numbers": ("price < %s AND id <> %s", [Decimal("1.5"), 3]),
    "a UUID and bytes": ("%s IS NOT NULL AND %s IS NOT NULL", [uuid.UUID(int=1), b"x"]),
    "None": ("name IS DISTINCT FROM %s", [None]),
    "a sign of percent": ("name LIKE %s AND id %% 2 = 0", ["a%"]),
}  # fmt: skip


@pytest.mark.parametrize("shape", PARAMS)
def test_a_statement_is_explained_with_its_parameters(shape: str) -> None:
    where, params = PARAMS[shape]
    sql = f"SELECT count(*) FROM shop_product WHERE {where}"
    site = Site(lambda: {"text": execute(sql, *params)})
    assert site.is_kept()
    assert learned() == {"public.shop_product"}


class Ann(str):
    __slots__ = ()


def test_parameters_by_name_of_json_and_of_a_type_of_its_own() -> None:
    from psycopg.types.json import Jsonb

    json: Any = Jsonb({"a": [1, "b"]})

    def view() -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM shop_product WHERE name = %(name)s AND %(json)s IS NOT NULL",
                {"name": "a", "json": json},
            )
            cursor.execute("SELECT 1 FROM shop_category WHERE name = %s", [Ann("ann")])
        return {}

    connection.ensure_connection()
    connection.connection.adapters.register_dumper(Ann, _StrDumper())
    site = Site(view)
    assert site.is_kept()
    assert learned() == {"public.shop_product", "public.shop_category"}


def _StrDumper() -> Any:  # noqa: N802
    from psycopg.types.string import StrDumper

    return StrDumper


def test_a_composed_statement_and_the_rows_of_a_server_side_cursor() -> None:
    from psycopg import sql

    composed = sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(sql.Identifier("shop_category"))

    def view() -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute(composed, [1])
        return {"text": [each.pk for each in Product.objects.iterator(chunk_size=1)]}

    site = Site(view)
    assert site.is_kept()
    assert learned() == {"public.shop_product", "public.shop_category"}


def test_inside_transactions_and_savepoints() -> None:
    def view() -> dict[str, Any]:
        with transaction.atomic():
            Category.objects.count()
            with transaction.atomic():
                return products()

    site = Site(view)
    assert site.is_kept()
    assert learned() == {"public.shop_product", "public.shop_category"}


def test_a_text_is_explained_once() -> None:
    site = Site(products)
    with mock.patch("django_pgnudge.reader.explained.first_word", wraps=first_word) as asked:
        assert site.is_kept()
    assert asked.call_count == 1


def test_views_are_looked_up_again_in_another_epoch(nudge_fake: NudgeFake) -> None:
    execute("CREATE VIEW seen AS SELECT id FROM shop_product")
    site = Site(lambda: {"text": execute("SELECT count(*) FROM seen")})
    assert site.is_kept()
    execute("CREATE OR REPLACE VIEW seen AS SELECT id FROM shop_category")
    nudge_fake.resync()  # as the daemon does, since the map has moved
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)


def test_with_psycopg_s_server_side_binding() -> None:
    options = connections.settings["default"]["OPTIONS"]
    connection.close()
    options["server_side_binding"] = True
    try:
        site = Site(lambda: {"text": Product.objects.filter(name="a", price__in=[1, 2]).count()})
        assert site.is_kept()
        assert learned() == {"public.shop_product"}
    finally:
        connection.close()
        del options["server_side_binding"]


def test_under_psycopg2_too(django_postgres: Any, tmp_path: Path) -> None:
    """Its ``AsIs`` writes a parameter as SQL, so one text reads several tables."""
    (tmp_path / "psycopg.py").write_text("raise ImportError('hidden')\n")
    settings = {alias: dict(connections.settings[alias]) for alias in ("default", "other")}
    code = PSYCOPG2.format(settings={k: dict(v, OPTIONS={}) for k, v in settings.items()})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[:-1] == [
        "psycopg2",
        "True ['public.shop_product']",
        "True ['public.shop_category', 'public.shop_product', 'public.shop_review']",
        "False",
    ], done.stderr


PSYCOPG2 = """
from tests import settings as s
s.DATABASES = {settings!r}
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django; django.setup()
import datetime
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from psycopg2.extensions import AsIs
from psycopg2.extras import Json
from django_pgnudge.reader import transcript
from django_pgnudge.testing import faked
from tests.fix_nudged import asking_postgres
from tests.shop.models import Product
from tests.templatetags.observed_site import Site, execute, learned
transcript.taking.is_on = True

def view():
    execute("SELECT 1 WHERE %s = ANY(%s) AND %s::jsonb IS NOT NULL", 1, [1, 2], Json({{"a": 1}}))
    return {{"text": Product.objects.filter(name__in=["a%", "b"], price__gt=1).count()}}

def as_it_is():
    execute("SELECT * FROM %s", AsIs("shop_review"))
    execute("SELECT * FROM %s", AsIs("shop_category"))
    return {{}}

def calling():
    execute("SELECT %s FROM shop_product", AsIs("now()"))
    return {{}}

with faked() as fake, asking_postgres(fake):
    print(connection.Database.__name__)
    print(Site(view).is_kept(), sorted(learned()))
    print(Site(as_it_is, "other").is_kept(), sorted(learned()))
    print(Site(calling, "another").is_kept())
"""
