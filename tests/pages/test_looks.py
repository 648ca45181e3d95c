"""requests: whatever way a page reads who its reader is, it is not shown to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import caches
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.views.decorators.vary import vary_on_headers
from rest_framework.decorators import api_view, authentication_classes  # type: ignore[import-untyped]

from django_pgnudge import nudged_condition, nudged_page
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

FACTORIES = (RequestFactory(), AsyncRequestFactory())


@pytest.fixture(autouse=True)
def empty_cache(nudge_fake: NudgeFake) -> None:
    caches["default"].clear()
    nudge_fake.lease()


BY_NAME: list[Callable[[Any], Any]] = [
    lambda request: request.META["HTTP_COOKIE"],
    lambda request: request.META.get("HTTP_COOKIE"),
    lambda request: request.headers["Cookie"],
    lambda request: request.headers["cookie"],
    lambda request: request.headers.get("COOKIE"),
]

WITH_ALL_ELSE: list[Callable[[Any], Any]] = [
    lambda request: request.META.pop("HTTP_COOKIE"),
    lambda request: dict(request.META)["HTTP_COOKIE"],
    lambda request: {**request.META}["HTTP_COOKIE"],
    lambda request: request.META.copy()["HTTP_COOKIE"],
    lambda request: [value for name, value in request.META.items() if name == "HTTP_COOKIE"],
    lambda request: [value for name, value in request.headers.items() if name == "Cookie"],
    lambda request: dict(request.headers)["Cookie"],
    lambda request: f"{request.headers}",
]

LOOKS = [*BY_NAME, *WITH_ALL_ELSE]


def made_by(look: Callable[[Any], Any]) -> Callable[..., Any]:
    @nudged_page(60, Product)
    def view(request: Any) -> HttpResponse:
        return HttpResponse(f"{look(request)}")

    return view


def text(response: Any) -> str:
    return str(response.content.decode())


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("look", LOOKS)
def test_a_page_that_read_the_cookie_in_whatever_way_varies_on_it(look: Any, factory: Any) -> None:
    page = made_by(look)
    for who in ("ann", "bob", "ann"):
        response = page(factory.get("/a", headers={"Cookie": f"who={who}"}))
        assert f"who={who}" in text(response)
        assert response["Vary"] == "Cookie"


@pytest.mark.parametrize("look", LOOKS)
def test_so_does_its_tag(look: Any) -> None:
    """One that was made of all headers was made of the one that the tag comes back in; and one
    that took the cookie away says so in ``Vary``."""
    view = nudged_condition(Product, vary_on=())(lambda request: HttpResponse(f"{look(request)}"))

    def ask(who: str, tag: str = "") -> Any:
        headers = {"Cookie": f"who={who}", "If-None-Match": tag}
        return view(FACTORIES[0].get("/a", headers=headers))

    tag = ask("ann")["ETag"]
    same = 304 if look in BY_NAME else 200
    assert (ask("ann", tag).status_code, ask("bob", tag).status_code) == (same, 200)


@pytest.mark.parametrize(
    "look",
    [
        lambda request: request.META["SERVER_NAME"],
        lambda request: request.META.get("HTTP_ACCEPT"),
        lambda request: "HTTP_X" in request.META,
        lambda request: request.headers.get("Accept"),
        lambda request: request.META.get("REMOTE_USER"),
        lambda request: request.build_absolute_uri("/b"),
    ],
)
def test_a_page_that_read_other_things_is_everybody_s(look: Any) -> None:
    runs = []

    @nudged_page(60, Product)
    def page(request: Any) -> HttpResponse:
        runs.append(1)
        return HttpResponse(f"{look(request)}")

    for who in ("ann", "bob"):
        page(FACTORIES[0].get("/a", headers={"Cookie": f"who={who}"}))
    assert len(runs) == 1


@pytest.mark.parametrize(
    "look", [lambda request: request.META["REMOTE_USER"], lambda request: dict(request.META)]
)
def test_a_page_that_read_whom_the_web_server_let_in_is_that_user_s(look: Any) -> None:
    page = made_by(look)
    for who in ("ann", "bob"):
        assert who in text(page(FACTORIES[0].get("/a", REMOTE_USER=who)))


def test_what_is_written_to_meta_is_read_there() -> None:
    def look(request: Any) -> Any:
        request.META["own"] = "own"
        return request.META["own"], request.headers["X-One"], request.META["HTTP_X_ONE"]

    assert text(made_by(look)(FACTORIES[0].get("/a", headers={"X-One": "1"}))) == (
        "('own', '1', '1')"
    )


USERS = {"ann": User(pk=1, username="ann"), "bob": User(pk=2, username="bob")}


def asked_by(who: str, **headers: str) -> Any:
    """By middleware that knows a user by something of its own."""
    request: Any = FACTORIES[1].get("/a", headers=headers)

    async def auser() -> Any:
        return USERS.get(who, AnonymousUser())

    request.auser = auser
    return request


def test_a_user_whom_a_coroutine_tells_has_a_page_of_their_own() -> None:
    @nudged_page(60, Product)
    async def view(request: Any) -> HttpResponse:
        return HttpResponse(f"for {(await request.auser()).username}")

    for who in ("ann", "bob", "", "bob", "ann"):
        assert text(async_to_sync(view)(asked_by(who))) == f"for {who}"


def test_it_is_shared_where_a_header_tells_the_user_or_nobody_asked() -> None:
    runs = []

    @nudged_page(60, Product)
    @vary_on_headers("X-Key")
    async def view(request: Any) -> HttpResponse:
        runs.append(await request.auser())
        return HttpResponse()

    @nudged_page(60, Product)
    async def nobody(request: Any) -> HttpResponse:
        runs.append(None)
        return HttpResponse()

    for who in ("ann", "bob", "ann", "bob"):
        async_to_sync(view)(asked_by(who, **{"X-Key": who}))
    assert len(runs) == 2
    for who in ("ann", "bob"):
        async_to_sync(nobody)(asked_by(who))
    assert len(runs) == 3


def test_an_api_that_reads_the_cookie_varies_on_it() -> None:
    def shown(request: Any) -> HttpResponse:
        return HttpResponse(f"{request.META['HTTP_COOKIE']}")

    view = nudged_page(60, Product)(api_view(["GET"])(authentication_classes([])(shown)))
    for who in ("ann", "bob", "ann"):
        assert text(view(FACTORIES[0].get("/a", headers={"Cookie": who}))) == who
