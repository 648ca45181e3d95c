"""scope: tenants in schemas of one database are each served what is theirs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged, nudged_page
from django_pgnudge.conf import conf
from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.errors import ConfigError
from django_pgnudge.log import forget_logged
from django_pgnudge.memo import Memo
from django_pgnudge.reader.dependencies import DependencyResolver
from django_pgnudge.reader.settled import settled
from django_pgnudge.reader.state import empty_states, reader_state
from django_pgnudge.registry import Registry
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

ODD = 'we"ird, "x'
GROUND: Any = "a cache"

tenant: ContextVar[tuple[str, ...] | None] = ContextVar("tenant", default=None)


def scope(using: str) -> tuple[str, ...] | None:
    return tenant.get()


def quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'


def make(schema: str) -> None:
    with connection.cursor() as cursor:
        for statement in (
            "CREATE SCHEMA {}",
            "CREATE TABLE {}.shop_product (LIKE public.shop_product INCLUDING ALL)",
        ):
            cursor.execute(statement.format(quoted(schema)))
    put(schema, schema)


def put(schema: str, name: str) -> None:
    """Add a row, by a connection of its own, and tell no cache."""
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {quoted(schema)}.shop_product (name, price) VALUES (%s, 0)", [name]
            )
    finally:
        other.close()


def set_path(*schemas: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = " + ", ".join(map(quoted, schemas)))


def set_path_unseen(*schemas: str) -> None:
    connection.connection.cursor().execute("SET search_path = " + ", ".join(map(quoted, schemas)))


def serve(*schemas: str) -> None:
    tenant.set(schemas)
    set_path(*schemas)


def products() -> list[str]:
    return sorted(Product.objects.values_list("name", flat=True))


def names() -> Any:
    return nudged.get_or_set("names", products, depends_on=[Product])


def kept(schema: str) -> bool:
    """Whether a change that no cache is told of is not seen: takes the path from the caller."""
    before = names()
    put(schema, "unseen")
    return bool(names() == before)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    forget_logged()
    yield
    tenant.set(None)


@pytest.fixture
def site(real_sessions: NudgeFake) -> NudgeFake:
    put("public", "public")
    for schema in ("acme", "umbrella", ODD):
        make(schema)
    return real_sessions


@pytest.fixture(params=["function", "dotted path"])
def said(request: pytest.FixtureRequest, site: NudgeFake, settings: Any) -> NudgeFake:
    given = scope if request.param == "function" else f"{__name__}.scope"
    settings.PGNUDGE = {"NUDGED": {"SCOPE": given}}
    return site


@pytest.fixture
def backend(site: NudgeFake) -> Iterator[NudgeFake]:
    connections["default"].close()
    with mock.patch.dict(connections.settings["default"], ENGINE="tests.tenants"):
        del connections["default"]
        yield site
        connections["default"].close()
        del connections["default"]


# A site that says so.


def test_tenants_are_served_their_own_rows(said: NudgeFake) -> None:
    for _ in range(2):
        for schema in ("acme", "umbrella", ODD):
            serve(schema, "public")
            assert names() == [schema]
    serve("public")
    assert names() == ["public"]
    for schema in ("acme", "umbrella", ODD):
        serve(schema, "public")
        assert kept(schema)


def test_a_change_ends_the_values_of_its_schema_alone(said: NudgeFake) -> None:
    for schema in ("acme", "umbrella"):
        serve(schema)
        names()
        put(schema, "new")
    said.changed("acme.shop_product")
    assert names() == ["umbrella"]
    serve("acme")
    assert names() == ["acme", "new"]


def test_a_hit_is_free_once_the_session_was_found_to_be_the_tenant_s(said: NudgeFake) -> None:
    serve("acme", "public")
    names()
    with CaptureQueriesContext(connection) as queries:
        names()
    assert len(queries) == 0
    serve("umbrella", "public")
    names()
    serve("acme", "public")
    with CaptureQueriesContext(connection) as queries:
        assert [names(), names()] == [["acme"]] * 2
    assert len(queries) == 1


def test_a_tenant_is_told_apart_by_every_way_to_name_a_value(said: NudgeFake) -> None:
    @nudged(Product)
    def plain(number: int) -> list[str]:
        return products()

    @nudged_page(60, Product)
    def page(request: Any) -> HttpResponse:
        return HttpResponse(",".join(products()))

    def one() -> Any:
        return nudged.get_or_set("own", products, depends_on=["own nudge"])

    for _ in range(2):
        for schema in ("acme", "umbrella"):
            serve(schema)
            assert [plain(1), one()] == [[schema]] * 2
            assert page(RequestFactory().get("/")).content.decode() == schema
    put("umbrella", "new")
    assert [plain(1), one()] == [["umbrella"]] * 2
    assert page(RequestFactory().get("/")).content == b"umbrella"
    nudged.delete("own")
    plain.invalidate(1)
    assert [plain(1), one()] == [["new", "umbrella"]] * 2
    put("acme", "new")
    serve("acme")
    assert [plain(1), one()] == [["acme"]] * 2


def test_a_session_that_is_another_tenant_s_keeps_nothing(
    said: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    serve("acme")
    names()
    tenant.set(("umbrella",))
    assert names() == ["acme"]
    assert "has the search_path acme where umbrella is expected" in caplog.text
    set_path("umbrella")
    assert names() == ["umbrella"]


def test_what_was_read_in_another_scope_is_not_kept(
    said: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    serve("acme")

    def both() -> list[str]:
        found = products()
        serve("umbrella")
        found += products()
        serve("acme")
        return found

    def get() -> Any:
        return nudged.get_or_set("both", both, depends_on=[Product])

    assert get() == ["acme", "umbrella"]
    put("umbrella", "new")
    assert get() == ["acme", "new", "umbrella"]
    assert "it queried the schemas ('umbrella',) too" in caplog.text


def test_a_tenant_made_later_is_found(said: NudgeFake) -> None:
    serve("acme", "public")
    names()
    make("late")
    serve("late", "public")
    assert names() == ["late"]
    assert kept("late")
    late = reader_state("default").resolver(("late", "public"))
    assert late.registry.pk_columns("late.shop_product") == ("id",)


def test_tenants_that_come_to_an_epoch_at_once_have_the_catalogs_read_once(
    said: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = [reader_state("default").resolver((schema,)) for schema in ("acme", "umbrella", ODD)]
    for each in served:
        assert each.dependencies([Product])
        assert not each.knows(GROUND, "an epoch that is new")
    read, reads = Registry.refresh, []
    on_path, all_here = DependencyResolver._on_path, threading.Barrier(len(served))

    def refresh(registry: Registry, connection: Any) -> None:
        reads.append(registry)
        read(registry, connection)

    def at_once(*args: Any) -> Any:
        all_here.wait(10)
        return on_path(*args)

    monkeypatch.setattr(Registry, "refresh", refresh)
    monkeypatch.setattr(DependencyResolver, "_on_path", at_once)
    with ThreadPoolExecutor(len(served)) as threads:
        found = list(threads.map(lambda each: each.dependencies([Product]), served))
    assert len(set(found)) == len(served)
    assert len(reads) == 1


def test_tables_of_a_bounded_number_of_tenants_are_known(
    said: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes: Memo[Any, Any] = Memo(1)
    monkeypatch.setattr(reader_state("default"), "scopes", scopes)
    for schema in ("acme", "umbrella", ODD, "acme"):
        serve(schema)
        assert names() == [schema]
        assert len(scopes) == 1


@pytest.mark.parametrize("answer", ["acme", (), ("",), (None,), 1, {"acme"}])
def test_an_answer_that_is_no_schema_path_is_refused(
    answer: Any, settings: Any, nudge_fake: NudgeFake
) -> None:
    settings.PGNUDGE = {"NUDGED": {"SCOPE": lambda using: answer}}
    with pytest.raises(ConfigError, match="SCOPE"):
        nudged.get_or_set("names", list, depends_on=[Product])


@pytest.mark.parametrize("given", ["scope", "no.such.path", 1, ["a"]])
def test_a_setting_that_is_no_function_is_refused(given: Any, settings: Any) -> None:
    settings.PGNUDGE = {"NUDGED": {"SCOPE": given}}
    assert [problem.id for problem in conf.problems()] == ["E003"]
    with pytest.raises(ImproperlyConfigured, match="SCOPE"):
        _ = conf.NUDGED


# A backend that says so.


def become(schema: str, *, include_public: bool = True) -> None:
    connection.set_tenant(SimpleNamespace(schema_name=schema), include_public)  # type: ignore[attr-defined]


def test_a_tenants_backend_works_by_itself(backend: NudgeFake) -> None:
    for _ in range(2):
        for schema in ("acme", "umbrella", ODD, "public"):
            become(schema)
            assert names() == [schema]
    become("acme")
    assert kept("acme")
    with CaptureQueriesContext(connection) as queries:
        names()
    assert len(queries) == 0
    become("umbrella")
    with CaptureQueriesContext(connection) as queries:
        assert names() == ["umbrella"]
    assert len(queries) == 0


def test_a_tenant_without_the_public_schema_has_its_own_values(backend: NudgeFake) -> None:
    become("acme")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE acme.shop_product")
    assert names() == ["public"]
    become("umbrella", include_public=False)
    assert names() == ["umbrella"]


def test_a_tenant_that_is_visited_within_is_not_kept(backend: NudgeFake) -> None:
    become("acme")

    def both() -> list[str]:
        found = products()
        become("umbrella")
        found += products()
        become("acme")
        return found

    def get() -> Any:
        return nudged.get_or_set("both", both, depends_on=[Product])

    assert get() == ["acme", "umbrella"]
    put("umbrella", "new")
    assert get() == ["acme", "new", "umbrella"]


@pytest.mark.usefixtures("fresh_threads")
async def test_async_code_that_cannot_know_its_tenant_computes(
    backend: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own connection is not the one that the threads of its queries have."""

    @nudged(Product)
    async def read() -> list[str]:
        return await sync_to_async(products)()

    for _ in range(2):
        for schema in ("acme", "umbrella"):
            await sync_to_async(become)(schema)
            assert await read() == [schema]
    assert "cannot tell which tenant" in caplog.text


# A site that does not say so.


def test_a_search_path_that_nobody_announced_is_computed_and_told(
    site: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    assert names() == ["public"]
    for schema in ("acme", "umbrella"):
        set_path(schema, "public")
        assert names() == [schema]
    assert "has the search_path acme, public where public is expected" in caplog.text
    assert "SCOPE" in caplog.text
    set_path("public")
    put("public", "unseen")
    assert names() == ["public"]


def by_set_schema() -> None:
    connection.cursor().execute("SET SCHEMA 'acme'")


def by_set_config() -> None:
    connection.cursor().execute("SELECT set_config(%s, %s, false)", ["search_path", "acme"])


def by_role() -> None:
    connection.cursor().execute("SET ROLE acme")


def by_a_procedure() -> None:
    connection.cursor().execute("CALL public.switch('acme')")


@pytest.mark.parametrize("switch", [by_set_schema, by_set_config, by_role, by_a_procedure])
def test_every_way_to_change_the_search_path_is_seen(switch: Any, site: NudgeFake) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS acme")
        cursor.execute("CREATE ROLE acme SUPERUSER")
        cursor.execute(
            "CREATE PROCEDURE public.switch(name text) LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM set_config('search_path', name, false); END$$"
        )
    try:
        assert names() == ["public"]
        switch()
        assert names() == ["acme"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ALL")
            cursor.execute("RESET ROLE")
            cursor.execute("DROP ROLE acme")
    assert names() == ["public"]


def test_a_search_path_of_a_transaction_ends_with_it(site: NudgeFake) -> None:
    names()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL search_path = acme")
        assert names() == ["acme"]
    put("public", "unseen")
    assert names() == ["public"]
    with transaction.atomic():
        set_path("acme")
        assert names() == ["acme"]
        transaction.set_rollback(True)
    assert names() == ["public"]


def test_a_search_path_that_only_a_transaction_has_is_not_trusted_after_it(
    site: NudgeFake,
) -> None:
    names()
    set_path("acme")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL search_path = public")
        assert names() == ["public"]
    assert names() == ["acme"]


def test_a_function_that_changes_the_search_path_and_back_is_not_kept(site: NudgeFake) -> None:
    def function() -> list[str]:
        set_path("acme")
        found = products()
        set_path("public")
        return found

    def get() -> Any:
        return nudged.get_or_set("other", function, depends_on=[Product])

    assert get() == ["acme"]
    put("acme", "new")
    assert get() == ["acme", "new"]


def test_what_a_raw_cursor_changed_is_never_kept(postgres: Any, site: NudgeFake) -> None:
    """And once one was found out, each session of the database is asked each time."""
    connection.ensure_connection()
    set_path_unseen("acme", "public")
    assert names() == ["acme"]
    set_path_unseen("public")
    assert names() == ["public"]
    set_path_unseen("umbrella", "public")
    assert names() == ["umbrella"]


def test_a_server_that_reports_search_path_is_not_fooled_by_a_raw_cursor(
    postgres: Any, site: NudgeFake
) -> None:
    connection.ensure_connection()
    if connection.connection.info.server_version < 180000:
        pytest.skip("search_path is reported from PostgreSQL 18 on")
    assert names() == ["public"]
    set_path_unseen("acme", "public")
    assert names() == ["acme"]
    set_path_unseen("public")
    put("public", "unseen")
    with CaptureQueriesContext(connection) as queries:
        assert [names(), names()] == [["public"]] * 2
    assert len(queries) == 1


def test_a_search_path_that_every_connection_is_given_is_the_site_s_own(site: NudgeFake) -> None:
    def prepare(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = acme, public")

    connection.close()
    connection_created.connect(prepare)
    try:
        assert names() == ["acme"]
        assert kept("acme")
        with CaptureQueriesContext(connection) as queries:
            names()
        assert len(queries) == 0
    finally:
        connection_created.disconnect(prepare)
        connection.close()


# With the daemon.


def test_a_live_daemon_ends_the_values_of_the_tenant_that_changed(
    django_postgres: Any, redis_server: Any, settings: Any
) -> None:
    django_postgres.execute("CREATE PUBLICATION every FOR ALL TABLES")
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url},
        "fast": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    settings.PGNUDGE = {"PUBLICATION": "every", "NUDGED": {"SCOPE": scope}}
    for schema in ("acme", "umbrella"):
        make(schema)
    with empty_states(), BackgroundDaemon():
        for schema in ("acme", "umbrella"):
            serve(schema, "public")
            assert names() == [schema]
            with CaptureQueriesContext(connection) as queries:
                assert names() == [schema]
            assert len(queries) == 0
            Product.objects.create(name=f"{schema} too", price=0)
            assert settled()
            assert names() == [schema, f"{schema} too"]
        serve("acme", "public")
        with CaptureQueriesContext(connection) as queries:
            assert names() == ["acme", "acme too"]
        assert not any("shop_product" in query["sql"] for query in queries)
    connections.close_all()
