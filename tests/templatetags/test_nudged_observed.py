"""Fragments without ``on``: they depend on what the request has read, and on what they read."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.signals import request_finished, request_started
from django.db import connection, connections, transaction
from django.template import Context, Engine, RequestContext
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged
from django_pgnudge.log import forget_logged
from django_pgnudge.reader import transcript
from django_pgnudge.reader.state import reader_state
from tests.fix_nudged import count_calls
from tests.shop.models import Category, Place, Product, Review

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions", "no_connections_closed")

ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})


@pytest.fixture(autouse=True)
def _takes_transcripts_from_now_on() -> Iterator[None]:
    transcript.taking.is_on = True
    yield
    transcript.taking.is_on = False
    assert not transcript.taking.open


def execute(sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else None


@contextmanager
def a_request() -> Iterator[None]:
    request_started.send(None)
    try:
        yield
    finally:
        request_finished.send(None)


class Site:
    """A view, and a fragment that shows what it returns; ``renderings`` counts."""

    def __init__(self, view: Callable[[], dict[str, Any]], inside: str = "", by: str = "") -> None:
        self.renderings = 0
        self._view = view
        self._template = ENGINE.from_string(
            "{% load nudged %}{% nudged 60 it " + by + " %}{{ text }}" + inside
            + "{{ count }}{% endnudged %}"
        )  # fmt: skip

    def get(self, **context: Any) -> str:
        with a_request():
            return self.render({**self._view(), **context})

    def render(self, context: dict[str, Any]) -> str:
        return str(self._template.render(Context({**context, "count": self._count})))

    def _count(self) -> str:
        self.renderings += 1
        return ""

    def is_kept(self) -> bool:
        """Whether it is served without being rendered, after requests that may learn."""
        for _ in range(4):
            self.get()
        before = self.renderings
        self.get()
        return self.renderings == before

    def is_ended_by(self, fake: NudgeFake, target: Any) -> bool:
        """Whether a change ends it; it is kept again afterwards."""
        before = self.renderings
        fake.changed(target)
        self.get()
        ended = self.renderings > before
        assert self.is_kept()
        return ended


def products() -> dict[str, Any]:
    return {"text": ",".join(Product.objects.order_by("name").values_list("name", flat=True))}


def test_what_the_view_read_and_the_fragment_shows_ends_it(nudge_fake: NudgeFake) -> None:
    site = Site(products)
    Product.objects.create(name="old")
    assert site.is_kept()
    execute("UPDATE shop_product SET name = 'new'")
    assert site.get() == "old"
    nudge_fake.changed("public.shop_product")
    assert site.get() == "new"
    assert site.is_kept()
    for other in (Category, Review, Place):
        assert not site.is_ended_by(nudge_fake, other)


def test_what_the_fragment_reads_ends_it_too(nudge_fake: NudgeFake) -> None:
    site = Site(lambda: {**products(), "found": Category.objects.all()}, "{{ found|length }}")
    Category.objects.create(name="one")
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)
    assert site.is_ended_by(nudge_fake, Product)
    assert not site.is_ended_by(nudge_fake, Review)


def test_a_hit_is_one_round_trip_and_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(dict)
    with_tables = Site(products)
    assert with_tables.is_kept()
    calls = count_calls(monkeypatch)
    with a_request(), CaptureQueriesContext(connection) as queries:
        with_tables.render({})
    assert len(queries) == 0
    named = ENGINE.from_string(
        '{% load nudged %}{% nudged 60 it on "shop.Product" %}{% endnudged %}'
    )
    observed = calls[:]
    for _ in range(3):
        calls.clear()
        with a_request():
            named.render(Context())
    assert observed == calls
    assert site.renderings == 0


def test_a_change_between_the_view_s_query_and_the_tag_is_not_kept(nudge_fake: NudgeFake) -> None:
    site = Site(products)
    Product.objects.create(name="old")
    assert site.is_kept()
    nudge_fake.changed(Product)
    with a_request():
        shown = products()
        execute("UPDATE shop_product SET name = 'new'")
        nudge_fake.changed(Product)
        assert site.render(shown) == "old"
    assert site.get() == "new"


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


def learned() -> set[str]:
    return set(reader_state("default").learned.of("fragment 'it'") or ())


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

    def view() -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM shop_product WHERE name = %(name)s AND %(json)s IS NOT NULL",
                {"name": "a", "json": Jsonb({"a": [1, "b"]})},
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
            cursor.execute(composed, [1])  # type: ignore[arg-type]
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
    assert site.is_kept()
    known = reader_state("default").explained._known
    assert len(known) == 1
    found = next(iter(known.values()))
    site.get()
    assert next(iter(known.values())) is found


def test_views_are_looked_up_again_in_another_epoch(nudge_fake: NudgeFake) -> None:
    execute("CREATE VIEW seen AS SELECT id FROM shop_product")
    site = Site(lambda: {"text": execute("SELECT count(*) FROM seen")})
    assert site.is_kept()
    execute("CREATE OR REPLACE VIEW seen AS SELECT id FROM shop_category")
    nudge_fake.resync()  # as the daemon does, since the map has moved
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)


def test_nudged_values_that_the_view_used_are_part_of_it(nudge_fake: NudgeFake) -> None:
    def view() -> dict[str, Any]:
        name = nudged.get_or_set("name", Category.objects.count)
        return {**products(), "text": name}

    site = Site(view)
    for _ in range(3):
        site.get()
    assert site.is_kept()
    Category.objects.create(name="one")
    assert site.get() == "0"
    nudge_fake.changed(Category)
    assert site.get() == "1"


def test_what_a_block_around_the_reads_used_is_part_of_it(nudge_fake: NudgeFake) -> None:
    def view() -> dict[str, Any]:
        with nudged.reading():
            count = nudged.get_or_set("name", Category.objects.count)
            return {**products(), "text": count}

    site = Site(view)
    for _ in range(3):
        site.get()
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)
    assert site.is_ended_by(nudge_fake, Product)


def test_what_was_observed_around_it_needs_no_text(nudge_fake: NudgeFake) -> None:
    """A function that EXPLAIN does not run is seen where the request is observed."""
    execute(TWO + FUNCTIONS)
    site = Site(dict)

    def page() -> str:
        with transaction.atomic():
            execute("SELECT in_plpgsql(1)")
        return site.render(products())

    def get() -> str:
        with a_request():
            return str(nudged.get_or_set(uuid.uuid4().hex, page))

    for _ in range(5):
        get()
    before = site.renderings
    get()
    assert site.renderings == before
    assert learned() == {"public.shop_product", "public.shop_category"}
    nudge_fake.changed(Category)
    get()
    assert site.renderings == before + 1


def test_the_request_that_compiles_the_first_fragment_renders_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transcript.taking.is_on = False
    caplog.set_level("INFO", "django_pgnudge.nudged")
    with a_request():
        shown = products()
        site = Site(products)
        for _ in range(4):
            site.render(shown)
        assert site.renderings == 4
    assert "noted from the next one on" in caplog.text
    assert site.is_kept()


def test_outside_of_requests_it_is_rendered_and_said(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(products)
    for _ in range(4):
        site.render(products())
    assert site.renderings == 4
    assert "outside of a request" in caplog.text
    for _ in range(5):
        with nudged.reading():
            site.render(products())
    assert site.renderings == 7  # learned, taken, and kept


def test_a_request_with_too_many_statements(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "MOST_STATEMENTS", 3)

    def view(number: int) -> dict[str, Any]:
        for _ in range(9):
            for limit in range(1, number + 1):
                execute(f"SELECT 1 FROM shop_product LIMIT {limit}")
        return {}

    assert Site(lambda: view(3)).is_kept()
    assert not Site(lambda: view(4), "other").is_kept()
    assert "more than 3 different statements" in caplog.text


def test_the_bound_is_500_statements(caplog: pytest.LogCaptureFixture) -> None:
    def view() -> dict[str, Any]:
        for number in range(501):
            execute(f"SELECT {number} FROM shop_product")
        return {}

    assert not Site(view).is_kept()
    assert "more than 500 different statements" in caplog.text


def test_another_database(caplog: pytest.LogCaptureFixture) -> None:
    def view() -> dict[str, Any]:
        return {**products(), "text": Category.objects.using("other").count()}

    assert not Site(view).is_kept()
    assert "the database 'other'" in caplog.text


def test_another_database_in_an_observed_value(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> None:
        Category.objects.using("other").count()
        raise KeyError

    def view() -> dict[str, Any]:
        try:
            nudged.get_or_set("failing", read, using="other")
        except KeyError:
            return products()
        raise AssertionError

    assert not Site(view).is_kept()
    assert "the database 'other'" in caplog.text


def test_a_statement_that_fails_and_one_that_is_not_visible(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def view() -> dict[str, Any]:
        try:
            execute("SELECT * FROM nothing")
        except Exception:
            return products()
        raise AssertionError

    assert not Site(view).is_kept()
    assert "did not say what the request had read" in caplog.text


def test_what_a_helper_thread_read(caplog: pytest.LogCaptureFixture) -> None:
    def read(found: list[Any]) -> None:
        found.append(Category.objects.count())
        connections.close_all()

    def view() -> dict[str, Any]:
        found: list[Any] = []
        thread = threading.Thread(target=read, args=[found])
        thread.start()
        thread.join()
        return {**products(), "text": found}

    assert not Site(view).is_kept()
    assert "a thread that serves no request queried meanwhile" in caplog.text


def test_another_request_in_another_thread_is_its_own() -> None:
    site = Site(products)
    started, finish = threading.Event(), threading.Event()

    def request_before_the_flag() -> None:
        with a_request():
            started.set()
            finish.wait(20)
            Category.objects.count()
        connections.close_all()

    transcript.taking.is_on = False
    thread = threading.Thread(target=request_before_the_flag)
    thread.start()
    started.wait(20)
    transcript.taking.is_on = True
    with a_request():
        shown = products()
        finish.set()
        thread.join()
        site.render(shown)
    assert learned() == {"public.shop_product"}


@pytest.mark.usefixtures("fresh_threads")
async def test_an_async_view_that_renders_in_its_thread(nudge_fake: NudgeFake) -> None:
    site = Site(products)

    async def get() -> str:
        with nudged.reading():
            count = await Category.objects.acount()
            return str(await sync_to_async(site.render)({"text": count}))

    for _ in range(4):
        await get()
    before = site.renderings
    await get()
    assert site.renderings == before
    assert learned() == {"public.shop_category"}
    await sync_to_async(nudge_fake.changed)(Category)
    await get()
    assert site.renderings == before + 1


@pytest.mark.usefixtures("fresh_threads")
async def test_a_loop_cannot_ask_postgres_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    site, other = Site(products), Site(products, "other")

    async def get(site: Site, model: Any, *, in_thread: bool = False) -> None:
        with nudged.reading():
            count = await model.objects.acount()
            if in_thread:
                await sync_to_async(site.render)({"text": count})
            else:
                site.render({"text": count})

    for _ in range(3):
        await get(site, Category, in_thread=True)
    for _ in range(3):
        await get(site, Category)  # what these texts read is known
    assert site.renderings == 3
    for _ in range(4):
        await get(other, Product)
    assert other.renderings == 4
    assert "You cannot call this from an async context" in caplog.text


def test_two_users_see_each_their_own() -> None:
    template = ENGINE.from_string(
        "{% load nudged %}{% nudged 60 it %}{{ request.user.username }}{{ text }}{% endnudged %}"
    )

    def get(user: Any) -> str:
        with a_request():
            request = RequestFactory().get("/")
            request.user = user
            shown = products()
            return str(template.render(RequestContext(request, {**shown, "request": request})))

    users = [User(pk=1, username="ann"), User(pk=2, username="bob"), AnonymousUser()]
    for _ in range(8):
        assert [get(user) for user in users] == ["ann", "bob", ""]


def test_after_by_stands_what_tells_renderings_apart() -> None:
    site = Site(dict, "{{ shown.name }}", by="by shown.pk")
    for pk in (1, 2):
        Product.objects.create(pk=pk, name=f"name {pk}")
    for turn in range(6):
        for pk in (1, 2):
            with a_request():
                shown = Product.objects.get(pk=pk)
                assert site.render({"shown": shown}) == f"name {pk}"
        if turn == 4:
            before = site.renderings
    assert site.renderings == before


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
