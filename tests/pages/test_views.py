"""views: two views at one address are told apart, and one view is one in every process.

A view that calls one of two others, by the user, a header or the time, serves both at one address.
"""

from __future__ import annotations

import functools
import logging
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.decorators import user_passes_test
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import caches
from django.http import HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.test import RequestFactory
from django.utils.decorators import decorator_from_middleware, method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_headers
from rest_framework.viewsets import ViewSet  # type: ignore[import-untyped]

from django_pgnudge import nudged_condition, nudged_page
from django_pgnudge.errors import UnsureError
from django_pgnudge.log import forget_logged
from django_pgnudge.pages.view_names import ViewName
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

get = RequestFactory().get


@pytest.fixture(autouse=True)
def empty_cache(nudge_fake: NudgeFake) -> None:
    forget_logged()
    caches["default"].clear()
    nudge_fake.lease()


def saying(text: str) -> Callable[..., Any]:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(text)

    return view


def asking(text: str) -> Callable[..., Any]:
    """One that closes over another, which is not there yet when it is decorated."""

    @nudged_page(60, Product)
    def view(request: Any) -> HttpResponse:
        return helper()

    def helper() -> HttpResponse:
        return HttpResponse(text)

    return view


def by_default(text: str) -> Callable[..., Any]:
    def view(request: Any, text: str = text) -> HttpResponse:
        return HttpResponse(text)

    return view


def by_attribute(text: str) -> Callable[..., Any]:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(view.text)  # type: ignore[attr-defined]

    view.text = text  # type: ignore[attr-defined]
    return view


def finding(text: str) -> Callable[..., Any]:
    pattern = re.compile(text)
    return lambda request: HttpResponse(pattern.pattern)


def told(request: Any, text: str) -> HttpResponse:
    return HttpResponse(text)


class Saying:
    __slots__ = ("__dict__",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, request: Any) -> HttpResponse:
        return HttpResponse(self.text)

    def method(self, request: Any) -> HttpResponse:
        return HttpResponse(self.text)


class Slotted(Saying):
    __slots__ = ("text",)


class Secret(Saying):
    def __getstate__(self) -> dict[str, Any]:
        return {}


class Shown(View):
    said: Any = None

    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(f"{self.said}")


class ByMethod(View):
    said: Any = None

    @method_decorator(nudged_page(60, Product))
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(f"{self.said}")


@method_decorator(nudged_page(60, Product), name="dispatch")
class ByDispatch(Shown):
    pass


class Actions(ViewSet):  # type: ignore[misc]
    authentication_classes = ()
    said = ""

    def one(self, request: Any) -> Any:
        return HttpResponse(f"a {self.said}")

    def two(self, request: Any) -> Any:
        return HttpResponse(f"b {self.said}")


class MethodActions(ViewSet):  # type: ignore[misc]
    authentication_classes = ()
    said = ""

    @method_decorator(nudged_page(60, Product))
    def list(self, request: Any) -> Any:
        return HttpResponse(f"{self.said}")


def local_class(text: str) -> Callable[..., Any]:
    class Local(View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse(text)

    return Local.as_view()


def allowed(word: str) -> Callable[..., Any]:
    return user_passes_test(lambda user: user.username == word, login_url=f"/{word}/")(named)


def named(request: Any) -> HttpResponse:
    return HttpResponse("named")


page = nudged_page(60, Product)

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "lambdas": (page(lambda request: HttpResponse("a")), page(lambda request: HttpResponse("b"))),
    "closures": (page(saying("a")), page(saying("b"))),
    "closed over later": (asking("a"), asking("b")),
    "defaults": (page(by_default("a")), page(by_default("b"))),
    "attributes": (page(by_attribute("a")), page(by_attribute("b"))),
    "partials": (
        page(functools.partial(told, text="a")), page(functools.partial(told, text="b"))
    ),
    "callables": (page(Saying("a")), page(Saying("b"))),
    "secrets": (page(Secret("a")), page(Secret("b"))),
    "patterns": (page(finding("a")), page(finding("b"))),
    "slots": (page(Slotted("a")), page(Slotted("b"))),
    "methods": (page(Saying("a").method), page(Saying("b").method)),
    "lru_cache": (page(functools.lru_cache(saying("a"))), page(functools.lru_cache(saying("b")))),
    "views": (page(Shown.as_view(said="a")), page(Shown.as_view(said="b"))),
    "views told lists": (page(Shown.as_view(said=["a"])), page(Shown.as_view(said=["b"]))),
    "views told objects": (
        page(Shown.as_view(said=SimpleNamespace(text="a"))),
        page(Shown.as_view(said=SimpleNamespace(text="b"))),
    ),
    "views told querysets": (
        page(Shown.as_view(said=Product.objects.filter(name="a").query)),
        page(Shown.as_view(said=Product.objects.filter(name="b").query)),
    ),
    "views of local classes": (page(local_class("a")), page(local_class("b"))),
    "methods of views": (ByMethod.as_view(said="a"), ByMethod.as_view(said="b")),
    "dispatch of views": (ByDispatch.as_view(said="a"), ByDispatch.as_view(said="b")),
    "viewsets": (
        page(Actions.as_view({"get": "one"})), page(Actions.as_view({"get": "two"}))
    ),
    "methods of viewsets": (
        MethodActions.as_view({"get": "list"}, said="a"),
        MethodActions.as_view({"get": "list"}, said="b"),
    ),
    "decorated closures": (
        page(csrf_exempt(vary_on_headers("Accept")(saying("a")))),
        page(csrf_exempt(vary_on_headers("Accept")(saying("b")))),
    ),
    "middleware": (
        page(decorator_from_middleware(GZipMiddleware)(saying("a"))),
        page(decorator_from_middleware(GZipMiddleware)(saying("b"))),
    ),
}  # fmt: skip
"""Two views of the same make, each of them nudged."""


def ask(view: Callable[..., Any], who: str = "") -> str:
    request: Any = get("/a")
    request.user = User(pk=len(who), username=who) if who else AnonymousUser()
    response = view(request)
    return str(getattr(response, "url", response.content.decode()))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_view_is_not_given_the_page_of_another_at_its_address(pair: str) -> None:
    first, second = PAIRS[pair]
    shown = [ask(first), ask(second), ask(first), ask(second)]
    assert shown[0] != shown[1]
    assert shown[2:] == shown[:2]


@pytest.mark.parametrize("make", [saying, by_default, by_attribute, local_class, Saying])
def test_nor_is_it_given_the_tag_of_another(make: Callable[[str], Any]) -> None:
    first, second = nudged_condition(Product)(make("a")), nudged_condition(Product)(make("b"))
    tag = first(get("/a"))["ETag"]
    assert first(get("/a", headers={"If-None-Match": tag})).status_code == 304
    assert second(get("/a", headers={"If-None-Match": tag})).status_code == 200


def test_nor_is_a_call_given_the_tag_of_one_with_other_arguments() -> None:
    view = nudged_condition(Product)(told)
    tag = view(get("/a"), text="a")["ETag"]
    headers = {"If-None-Match": tag}
    assert view(get("/a", headers=headers), text="a").status_code == 304
    assert view(get("/a", headers=headers), text="b").content == b"b"


def test_a_test_that_lets_the_user_pass_is_part_of_the_view(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.pages.page_site"
    ann, bob = page(allowed("ann")), page(allowed("bob"))
    assert ask(ann, "ann") == "named"
    assert ask(bob, "ann").startswith("/bob/")


def test_a_view_that_cannot_be_told_from_others_is_called_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts, runs = (text for text in ("a",)), []

    def streamed(request: Any) -> HttpResponse:
        runs.append(1)
        return HttpResponse(parts)

    with caplog.at_level(logging.WARNING, "django_pgnudge"):
        for nudge in (page, nudged_condition(Product)):
            for _ in range(2):
                assert not nudge(streamed)(get("/a")).has_header("ETag")
    assert len(runs) == 4
    assert (
        "of its view, it holds a builtins.generator, which cannot be told from another"
        in caplog.text
    )


def test_a_view_that_holds_too_much_is_not_named() -> None:
    with pytest.raises(UnsureError, match="more than"):
        ViewName(Saying([object() for _ in range(30_000)])).full()  # type: ignore[arg-type]
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(UnsureError, match="too deep"):
        ViewName(Saying(deep)).full()  # type: ignore[arg-type]
