"""inputs and recording: a page is kept under all that it was made of, whoever left it there."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.cache import SessionStore as CachedSession
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.template.response import SimpleTemplateResponse
from django.test import AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View
from django.views.decorators.vary import vary_on_headers

from django_pgnudge.pages.recording import MOST_INPUTS
from tests.pages.left import (
    LEFT,
    TURNS,
    USERS,
    WHETHER,
    Held,
    Shown,
    a_request,
    leave,
    page,
    tagged,
    text,
)

if TYPE_CHECKING:
    pass


@pytest.fixture(autouse=True)
def ready(emptied: None) -> None:
    """Each test begins with nothing kept."""


@pytest.mark.parametrize("name", WHETHER)
def test_a_page_is_of_what_is_there_at_all(name: str) -> None:
    left, look = WHETHER[name]
    shown = Shown(look)
    for has in (True, False, True, False):
        request = a_request()
        left(request, has)
        assert text(shown.page(request)) == f"{has}"
        request = a_request()
        left(request, not has)
        tag = shown.tagged(request).get("ETag", "")
        request = a_request(**{"If-None-Match": tag})
        left(request, has)
        assert shown.tagged(request).status_code == 200


@pytest.mark.parametrize("name", LEFT)
def test_a_page_is_of_what_middleware_left_on_the_request(name: str) -> None:
    left, look = LEFT[name]
    shown = Shown(look)
    for who in TURNS:
        request = a_request()
        left(request, who)
        assert text(shown.page(request)) == who
    assert sorted(shown.runs) == ["", "ann", "bob"]


@pytest.mark.parametrize("name", LEFT)
def test_so_is_its_tag(name: str) -> None:
    left, look = LEFT[name]
    shown = Shown(look)

    def ask(who: str, tag: str = "") -> Any:
        request = a_request(**{"If-None-Match": tag})
        left(request, who)
        return shown.tagged(request)

    for who, other in [("ann", "bob"), ("bob", "ann"), ("", "ann"), ("ann", "")]:
        tag = ask(who)["ETag"]
        assert (ask(who, tag).status_code, ask(other, tag).status_code) == (304, 200)


def test_what_nobody_read_or_the_view_left_there_itself_does_not_matter() -> None:
    def look(request: Any) -> str:
        request.made = request.headers["X-Who"]
        request.META["MADE"] = request.made
        assert not hasattr(request, "missing")
        return f"{request.made} {request.META['MADE']}"

    shown = Shown(look)
    for count, who in enumerate(("ann", "bob", "ann", "bob")):
        request = a_request(**{"X-Who": who})
        request.account, request.user = count, SimpleLazyObject(lambda: 1 / 0)
        assert text(shown.page(request)) == f"{who} {who}"
    assert len(shown.runs) == 2


def test_a_lazy_attribute_that_was_handed_on_and_not_asked_does_not_matter() -> None:
    """As Django's context processor hands on the user."""
    shown = Shown(lambda request: [request.user] and "all")
    for who in ("ann", "bob"):
        request = a_request()
        request.user = SimpleLazyObject(partial(USERS.get, who))
        shown.page(request)
    assert len(shown.runs) == 1


HEADERS = (
    "X-Inertia", "X-PJAX", "Up-Version", "Referer", "DNT", "Range", "Content-Type", "Host",
    "X-Forwarded-Proto", "CF-IPCountry", "HX-Request",
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("lazy", [True, False])
def test_a_header_in_vary_tells_nothing_of_the_user(header: str, lazy: bool) -> None:
    view = vary_on_headers(header)(lambda request: HttpResponse(request.user.username))
    for who in TURNS:
        request = a_request(**{header: "1"})
        request.user = SimpleLazyObject(partial(USERS.get, who)) if lazy else USERS[who]
        assert text(page(view)(request)) == who


@pytest.mark.parametrize(
    "look",
    [
        lambda request: request.body.decode(),
        lambda request: request.read().decode(),
        lambda request: b"".join(request).decode(),
    ],
)
@pytest.mark.parametrize("factory", [RequestFactory(), AsyncRequestFactory()])
def test_a_page_is_of_the_body_that_it_read(look: Any, factory: Any) -> None:
    shown = Shown(look)
    tag = ""
    for who in ("ann", "bob", "ann"):
        assert text(shown.page(factory.generic("GET", "/a", who))) == who
        request = factory.generic("GET", "/a", who, headers={"If-None-Match": tag})
        response = shown.tagged(request)
        assert (response.status_code, text(response)) == (200, who)
        tag = response["ETag"]


def test_a_page_is_of_the_scope_that_it_read() -> None:
    factory = AsyncRequestFactory()
    shown = Shown(lambda request: dict(request.scope["headers"])[b"x-who"].decode())
    port = Shown(lambda request: request.scope["client"])
    for who in ("ann", "bob", "ann"):
        assert text(shown.page(factory.get("/a", headers={"X-Who": who}))) == who
        request: Any = factory.get("/a")
        request.scope["client"] = [who, 1]
        assert who in text(port.page(request))


@pytest.mark.parametrize("kind", [CachedSession, SessionStore])
@pytest.mark.django_db
def test_a_page_is_of_what_the_session_holds(kind: Any) -> None:
    """Another tab may have changed it: for a store that is no table, nobody tells."""
    session = kind()
    session["cart"] = "one"
    session.save()
    shown = Shown(lambda request: request.session.get("cart"))

    def ask(*, load: bool = False) -> str:
        request = a_request()
        request.session = kind(session.session_key)
        if load:  # as middleware does that asks for the user
            request.session.get("cart")
        return text(shown.page(request))

    assert [ask(load=True), ask(load=True)] == ["one", "one"]
    session["cart"] = "two"
    session.save()
    assert ask(load=True) == "two"
    if kind is CachedSession:
        session["cart"] = "three"
        session.save()
        assert [ask(), ask()] == ["three", "three"]
        assert shown.runs == ["one", "two", "three"]


def test_whether_there_is_a_session_is_read_too() -> None:
    shown = Shown(lambda request: request.session.is_empty())
    stored = CachedSession()
    stored.create()
    for key in (None, stored.session_key, None):
        request = a_request()
        request.session = CachedSession(key)
        assert text(shown.page(request)) == str(key is None)
    request.session = CachedSession(None)
    request.session["cart"] = 1
    assert text(shown.page(request)) == "False"


class Account:
    """Middleware that gives the view an argument."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        kwargs["account"] = request.headers["X-Who"]


urlpatterns = [
    path(
        f"{name}/<int:pk>/",
        nudge(lambda request, pk, account: HttpResponse(f"{pk} {account}")),
    )
    for name, nudge in (("page", page), ("tag", tagged))
]


def test_a_page_is_of_the_arguments_that_middleware_gives(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [f"{__name__}.Account"]
    client, tag = Client(), ""
    for who in ("ann", "bob", "ann"):
        assert text(client.get("/page/1/", headers={"X-Who": who})) == f"1 {who}"
        response = client.get("/tag/1/", headers={"X-Who": who, "If-None-Match": tag})
        assert text(response) == f"1 {who}"
        tag = response["ETag"]


def test_a_method_s_page_is_of_what_its_object_holds() -> None:
    class Mine(View):
        def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
            super().setup(request, *args, **kwargs)
            self.held = Held(request, request.who)

        @method_decorator(page)
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse(self.held.who)

    for who in TURNS:
        request = a_request()
        request.who = who
        assert text(Mine.as_view()(request)) == who


def test_a_page_is_of_what_was_read_while_it_was_rendered() -> None:
    template = Engine().from_string("{{ request.account }}")

    class Rendering:
        def render(self, context: Any, request: Any) -> str:
            return str(template.render(Context(context)))

    view = page(lambda request: SimpleTemplateResponse(Rendering(), {"request": request}))  # type: ignore[arg-type]
    for who in TURNS:
        request = a_request()
        leave(request, who)
        response = view(request)
        assert text(response if response.is_rendered else response.render()) == who


def test_a_page_is_of_what_the_pages_in_it_are_of() -> None:
    """Those inside are served, and read nothing."""
    inner = Shown(lambda request: request.account)
    outer = Shown(lambda request: text(inner.page(request)))
    for who in ("ann", "bob"):
        for each in (inner, inner, outer, outer):
            request = a_request()
            leave(request, who)
            assert text(each.page(request)) == who
    assert (inner.runs, outer.runs) == (["ann", "bob"], ["ann", "bob"])


ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})


def test_a_page_is_of_what_the_fragments_in_it_are_of() -> None:
    fragment = ENGINE.from_string(
        '{% load nudged %}{% nudged 60 own on "shop.Product" %}{{ request.account }}{% endnudged %}'
    )
    shown = Shown(lambda request: fragment.render(Context({"request": request})))
    for who in ("ann", "ann", "ann", "bob", "ann", "bob"):
        request = a_request()
        leave(request, who)
        assert text(shown.page(request)) == who


def test_a_coroutine_s_page_is_of_a_lazy_attribute_that_asks_the_database() -> None:
    def find(who: str) -> str:
        async_to_sync(nothing)()  # which a running loop refuses, as Django's ORM does
        return who

    async def nothing() -> None:
        pass

    @page
    async def view(request: Any) -> HttpResponse:
        return HttpResponse(await sync_to_async(str)(request.account))

    for who in TURNS:
        request: Any = AsyncRequestFactory().get("/a")
        request.account = SimpleLazyObject(partial(find, who))
        assert text(async_to_sync(view)(request)) == who


def test_a_page_that_copied_the_request_is_not_kept() -> None:
    """What is read of the copy is not noted for it."""
    inner = page(lambda request: HttpResponse(request.headers["X-Who"]))

    def look(request: Any) -> str:
        copied = copy.copy(request)
        assert (type(copied), copied.path) == (WSGIRequest, "/a")
        copied.user = AnonymousUser()
        return f"{text(inner(copied))} {request.user.username}"

    shown = Shown(look)
    for who in ("ann", "bob", "ann"):
        request = a_request(**{"X-Who": who})
        request.user = USERS[who]
        assert text(shown.page(request)) == f"{who} {who}"
        assert not shown.tagged(request).has_header("ETag")


def test_what_cannot_be_told_from_another_is_not_kept_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "django_pgnudge.nudged")
    shown = Shown(lambda request: next(request.account))
    for who in ("ann", "bob"):
        request = a_request()
        request.account = iter(who for who in [who])
        assert text(shown.page(request)) == who
        request.account = iter(who for who in [who])
        assert not shown.tagged(request).has_header("ETag")
    assert "it read 'account' on the request: it holds a builtins.generator" in caplog.text


def test_an_address_that_is_told_apart_by_ever_more_inputs_is_not_kept_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cookie of another name for each visitor: their list must have an end."""
    caplog.set_level("INFO", "django_pgnudge.nudged")

    def look(request: Any) -> list[Any]:
        first = int(request.headers["X-First"])
        return [request.COOKIES.get(f"{each}") for each in range(first, first + MOST_INPUTS // 2)]

    shown = Shown(look)
    for first in (0, 0, MOST_INPUTS, MOST_INPUTS, 0):
        shown.page(a_request(**{"X-First": f"{first}"}))
    assert len(shown.runs) == 3, "the first is kept, and the other is not"
    assert f"more than {MOST_INPUTS} parts of requests" in caplog.text


def test_a_tag_of_too_many_inputs_is_not_given() -> None:
    few = Shown(lambda request: [request.headers.get(f"X-{each}") for each in range(39)])
    many = Shown(lambda request: [request.headers.get(f"X-{each}") for each in range(41)])
    assert few.tagged(a_request())["ETag"]
    assert not many.tagged(a_request()).has_header("ETag")


@pytest.mark.parametrize("tag", ['W/"ab.attribute:user"', 'W/"ab.x:y"', 'W/"ab.body:of.meta:%20"'])
def test_a_tag_that_a_browser_made_up_asks_for_nothing_that_fails(tag: str) -> None:
    request = a_request(**{"If-None-Match": tag})
    request.user = SimpleLazyObject(lambda: 1 / 0)
    assert Shown(lambda request: "all").tagged(request).status_code == 200


def test_the_request_is_what_it_was_when_the_page_is_made() -> None:
    request = a_request(Cookie="a=1")
    kind = type(request)
    text(Shown(lambda request: request.COOKIES["a"]).page(request))
    assert type(request) is kind
    assert (request.COOKIES, request.META["HTTP_COOKIE"]) == ({"a": "1"}, "a=1")
    assert request.headers["cookie"] == "a=1"
