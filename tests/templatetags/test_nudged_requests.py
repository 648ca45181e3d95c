"""Fragments without ``on`` in threads, in tasks and for tenants: right, or rendered and said."""

from __future__ import annotations

import gc
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.signals import request_started
from django.db import connections

from django_pgnudge import nudged
from django_pgnudge.reader import transcript
from tests.shop.models import Category, Place, Product
from tests.templatetags.observed_site import Site, a_request, execute, learned, products

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions", "no_connections_closed", "takes_transcripts")


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


def test_a_request_that_is_never_finished_leaves_nothing() -> None:
    """As one that an ASGI server cuts off."""

    def cut_off() -> None:
        request_started.send(None)
        assert len(transcript.taking.open()) == 1

    thread = threading.Thread(target=cut_off)
    thread.start()
    thread.join()
    gc.collect()
    assert not transcript.taking.open()


@pytest.fixture
def tenants(settings: Any) -> Iterator[ContextVar[str]]:
    tenant: ContextVar[str] = ContextVar("tenant", default="acme")
    settings.PGNUDGE = {"NUDGED": {"SCOPE": lambda using: (tenant.get(), "public")}}
    for schema in ("acme", "umbrella"):
        execute(f"CREATE SCHEMA {schema}")
        execute(f"CREATE TABLE {schema}.shop_product (LIKE shop_product INCLUDING ALL)")
        execute(f"INSERT INTO {schema}.shop_product (name, price) VALUES ('{schema}', 0)")
    yield tenant
    execute("SET search_path TO DEFAULT")


@pytest.mark.parametrize("reads_first", [False, True])
def test_tenants_see_each_their_own(
    tenants: ContextVar[str],
    nudge_fake: NudgeFake,
    reads_first: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def view() -> dict[str, Any]:
        if reads_first:
            Place.objects.count()
        execute(f"SET search_path TO {tenants.get()}, public")
        return products()

    site = Site(view)
    for tenant in ("acme", "umbrella"):
        tenants.set(tenant)
        assert site.is_kept() is not reads_first
        assert site.get() == tenant
    if reads_first:
        assert "done more than read (SET)" in caplog.text
        return
    before = site.renderings
    assert learned() == {"acme.shop_product", "umbrella.shop_product"}
    nudge_fake.changed("acme.shop_product")
    site.get()
    assert site.renderings == before
    nudge_fake.changed("umbrella.shop_product")
    site.get()
    assert site.renderings == before + 1


def test_a_path_that_is_no_scope(caplog: pytest.LogCaptureFixture) -> None:
    execute("CREATE SCHEMA other")
    execute("CREATE TABLE other.shop_product (LIKE shop_product INCLUDING ALL)")

    def view() -> dict[str, Any]:
        execute("SET search_path TO other, public")
        return products()

    try:
        assert not Site(view).is_kept()
        assert "has the search_path other, public" in caplog.text
    finally:
        execute("SET search_path TO DEFAULT")


@pytest.mark.usefixtures("fresh_threads")
async def test_a_loop_that_knows_no_table_yet_renders(caplog: pytest.LogCaptureFixture) -> None:
    for on in ("", 'on "shop.Product"'):
        site = Site(products, by=on)
        with nudged.reading():
            assert site.render({"text": "shown"}) == "shown"
    assert "did not say what its tables are" in caplog.text
