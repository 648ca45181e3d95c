"""`NudgedSiteMiddleware`: what a whole page depends on, what is not kept, and what is said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.vary import vary_on_headers

from django_pgnudge.log import forget_logged
from django_pgnudge.pages.busy_tables import MOST_IN_A_ROW, REST, BusyTables
from django_pgnudge.reader.state import reader_state
from tests.pages import small_site
from tests.pages.small_site import (
    SITE,
    Front,
    Visitor,
    is_kept,
    learn,
    products,
    ready,
    runs,
    says,
    shown,
    shows,
    somebody,
)
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def site(real_sessions: NudgeFake, settings: Any) -> None:
    ready(real_sessions, settings)


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_a_page_is_kept_until_something_it_read_changes(
    browser: type[Client | AsyncClient], real_sessions: NudgeFake
) -> None:
    shows(lambda request: "")
    Product.objects.create(name="one")
    visitor = Visitor(browser)
    assert [shown(visitor.get()) for _ in range(3)] == [
        ("one", "miss"),  # what it reads is learned
        ("one", "miss"),
        ("one", "hit"),
    ]
    Product.objects.create(name="two")
    real_sessions.changed(Review)
    assert shown(visitor.get()) == ("one", "hit")
    real_sessions.changed(Product)
    assert shown(visitor.get()) == ("one,two", "miss")
    assert shown(visitor.get("/?other")) == ("one,two", "miss")
    assert shown(Visitor(browser).get()) == ("one,two", "hit")


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_what_middleware_below_reads_is_a_part_of_the_page(
    browser: type[Client | AsyncClient], real_sessions: NudgeFake, settings: Any
) -> None:
    settings.MIDDLEWARE = [SITE, f"{small_site.__name__}.Reading"]
    shows(lambda request: request.categories)
    assert is_kept(Visitor(browser))
    for model in (Category, Review, Product):
        real_sessions.changed(model)
        assert says(Visitor(browser)) == "miss"
        assert says(Visitor(browser)) == "hit"
    real_sessions.changed(User)
    assert says(Visitor(browser)) == "hit"


def test_tables_are_learned_for_each_route() -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    Visitor().get("/category/")
    learned = reader_state("default").learned
    assert learned.of("site /") == {"public.shop_product"}
    assert learned.of("site /category/") == {"public.shop_category"}


def test_a_page_that_its_template_reads_for(real_sessions: NudgeFake) -> None:
    template = engines["django"].from_string("{{ products }}")
    shows(lambda request: TemplateResponse(request, template, {"products": products}))
    assert is_kept(Visitor())
    Product.objects.create(name="new")
    real_sessions.changed(Product)
    assert shown(Visitor().get()) == ("new", "miss")


def set_cookie(request: Any) -> HttpResponse:
    response = HttpResponse(products())
    response.set_cookie("seen", "1")
    return response


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "never_cache": (never_cache(lambda request: HttpResponse(products())), "its Cache-Control is"),
    "private": (
        cache_control(private=True)(lambda request: HttpResponse(products())),
        "its Cache-Control is 'private'",
    ),
    "max-age of 0": (
        cache_control(max_age=0)(lambda request: HttpResponse(products())),
        "its max-age is 0",
    ),
    "a cookie": (set_cookie, "it set a cookie"),
    "another status": (lambda request: HttpResponse(products(), status=404), "not a complete"),
    "Vary: *": (vary_on_headers("*")(lambda request: HttpResponse(products())), "on everything"),
    "a stream": (lambda request: StreamingHttpResponse(iter([products()])), "not a complete"),
    "a write": (
        lambda request: HttpResponse(str(Category.objects.create(name="x"))), "it ran INSERT",
    ),
    "the token": (lambda request: HttpResponse(get_token(request)), "it used the CSRF token"),
    "nothing read": (lambda request: HttpResponse("text"), "it read nothing in the database"),
    "a changed session": (
        lambda request: request.session.update({"a": 1}) or HttpResponse(products()),
        "it changed the session",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_kept_says_why(what: str) -> None:
    view, why = REFUSED[what]

    def show(request: Any) -> Any:
        return view(request)

    Front.show = staticmethod(show)
    answers = [Visitor().get("/raw/").headers["X-Nudged"] for _ in range(3)]
    assert answers[-1].startswith("bypass; ")
    assert why in answers[-1]
    assert len(runs) == 3


def test_max_age_is_how_long_a_page_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    backend: Any = type(caches["default"])
    real = backend.set

    def note(self: Any, key: Any, value: Any, timeout: Any = None, **kwargs: Any) -> Any:
        kept.append(timeout)
        return real(self, key, value, timeout, **kwargs)

    shows(cache_control(max_age=30)(lambda request: HttpResponse(products())))
    learn()
    monkeypatch.setattr(backend, "set", note)
    assert says(Visitor()) == "miss"
    assert 30 in kept
    assert says(Visitor()) == "hit"


def test_only_get_is_kept_and_a_head_is_answered_from_it(settings: Any) -> None:
    shows(lambda request: "")
    learn()
    runs.clear()
    assert "bypass" in Visitor().head().headers["X-Nudged"]
    assert Visitor().client.post("/").headers["X-Nudged"] == "bypass; its method is POST"
    assert says(Visitor()) == "miss"
    assert Visitor().head().headers["X-Nudged"] == "hit"
    assert len(runs) == 3
    settings.CACHE_MIDDLEWARE_SECONDS = 0
    assert says(Visitor()) == "bypass; CACHE_MIDDLEWARE_SECONDS is 0"


def test_hosts_and_headers_of_vary_are_told_apart(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["one.test", "two.test"]
    shows(vary_on_headers("X-Plan")(lambda request: HttpResponse(products())))
    visitor = Visitor()
    learn_headers = {"Host": "one.test"}
    visitor.get(**learn_headers)
    for host in settings.ALLOWED_HOSTS:
        for plan in ("free", "paid"):
            headers = {"Host": host, "X-Plan": plan}
            assert says(visitor, **headers) == "miss"
            assert says(visitor, **headers) == "hit"
    refused = visitor.get(Host="three.test")
    assert (refused.status_code, refused.headers["X-Nudged"]) == (
        400,
        "bypass; its host is not allowed",
    )


def test_the_header_is_there_when_debugging_or_asked_for(settings: Any) -> None:
    shows(lambda request: "")
    settings.PGNUDGE = {}
    assert "X-Nudged" not in Visitor().get().headers
    settings.DEBUG = True
    assert "X-Nudged" in Visitor().get().headers


def test_the_header_of_the_response_that_was_kept_is_not_kept(settings: Any) -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    settings.PGNUDGE = {}
    assert "X-Nudged" not in Visitor().get().headers


def test_a_table_that_the_stream_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """As that of sessions does by default."""
    tables = {"public.shop_product", "public.auth_user"}
    reader_state("default").coverages["fake"] = frozenset(tables)
    shows(lambda request: request.user.username)
    visitor = somebody("ann")
    assert not is_kept(visitor)
    assert "public.django_session, whose changes the stream does not carry" in says(visitor)
    assert "public.django_session" in caplog.text
    assert is_kept(Visitor())


def test_there_is_no_hit_without_a_lease(real_sessions: NudgeFake) -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    real_sessions.no_lease()
    assert says(Visitor()) == "bypass; there is no lease"


def test_a_busy_table_is_found_and_said_once(
    real_sessions: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    forget_logged()
    shows(lambda request: "")
    learn()
    visitor = Visitor()  # each client has a middleware of its own
    with caplog.at_level(logging.WARNING):
        for _ in range(MOST_IN_A_ROW + 1):
            assert says(visitor) == "miss"
            real_sessions.changed(Product)
        why = "bypass; public.shop_product changes between any two requests"
        assert {says(visitor) for _ in range(3)} == {why}
        assert says(visitor, "/?another") == why
        assert says(visitor, "/category/") == "miss"
    said = [each for each in caplog.messages if "public.shop_product has changed" in each]
    assert len(said) == 1


def test_a_page_that_is_hit_in_between_is_worth_keeping(real_sessions: NudgeFake) -> None:
    shows(lambda request: "")
    learn()
    visitor = Visitor()
    for _ in range(2 * MOST_IN_A_ROW):
        assert [says(visitor), says(visitor)] == ["miss", "hit"]
        real_sessions.changed(Product)


class TestBusyTables:
    def rows(self, busy: BusyTables, count: int, *tokens: str, entry: str = "page") -> str | None:
        found = None
        for _ in range(count):
            self.turn = getattr(self, "turn", 0) + 1
            found = busy.stored("/", entry, {"still": "1", **dict.fromkeys(tokens, f"{self.turn}")})
        return found

    def test_a_hit_begins_again(self) -> None:
        busy = BusyTables(lambda: 0.0)
        assert self.rows(busy, MOST_IN_A_ROW, "visits") is None
        busy.hit("/")
        assert self.rows(busy, MOST_IN_A_ROW - 1, "visits") is None
        assert self.rows(busy, 1, "visits") == "visits"
        assert busy.resting_for("/") == "visits"
        assert busy.resting_for("/other") is None

    def test_one_change_that_ends_many_pages_is_one_change(self) -> None:
        busy = BusyTables(lambda: 0.0)
        for token in ("before", "after"):
            for page in range(MOST_IN_A_ROW * 2):
                assert busy.stored("/", f"page {page}", {"pages": token}) is None
        assert busy.resting_for("/") is None

    def test_it_is_one_table_that_ends_them_all(self) -> None:
        busy = BusyTables(lambda: 0.0)
        assert self.rows(busy, MOST_IN_A_ROW, "visits", "orders") is None
        assert self.rows(busy, 1, "visits") == "visits"
        for table in ("a", "b") * MOST_IN_A_ROW:
            assert self.rows(busy, 2, table) is None

    def test_pages_that_are_asked_for_once_say_nothing(self) -> None:
        busy = BusyTables(lambda: 0.0)
        for page in range(5 * MOST_IN_A_ROW):
            assert self.rows(busy, 1, "visits", entry=f"page {page}") is None

    def test_the_rest_ends(self) -> None:
        now = 0.0
        busy = BusyTables(lambda: now)
        self.rows(busy, MOST_IN_A_ROW + 1, "visits")
        now = REST - 1
        assert busy.resting_for("/") == "visits"
        now = REST
        assert busy.resting_for("/") is None
        assert self.rows(busy, MOST_IN_A_ROW - 1, "visits") is None
