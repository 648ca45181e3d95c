"""`nudged_page(timeout)` without dependencies: a page depends on what its view and its rendering
read, says PostgreSQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.authentication import BaseAuthentication  # type: ignore[import-untyped]
from rest_framework.renderers import JSONRenderer  # type: ignore[import-untyped]
from rest_framework.response import Response  # type: ignore[import-untyped]
from rest_framework.views import APIView  # type: ignore[import-untyped]
from rest_framework.viewsets import ViewSet  # type: ignore[import-untyped]

from django_pgnudge import nudged, nudged_page
from django_pgnudge.errors import ConfigError, UndeclaredError
from tests.pages.page_site import as_api
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

get = RequestFactory().get

runs: list[str] = []
"""The views that ran, by the path they were asked for."""


@pytest.fixture(autouse=True)
def site(real_sessions: NudgeFake, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    settings.MIDDLEWARE = []
    caches["default"].clear()
    real_sessions.lease()
    # The first value of an epoch has a process read the catalogs; a page leaves it at that.
    nudged.get_or_set("first", 1, depends_on=["own"])
    runs.clear()


def product_names() -> str:
    return ",".join(Product.objects.order_by("pk").values_list("name", flat=True))


def category_names() -> str:
    return ",".join(Category.objects.order_by("pk").values_list("name", flat=True))


def execute(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def late(request: Any, **read: Callable[[], object]) -> TemplateResponse:
    """A response whose template calls these when it is rendered."""
    names = ";".join(f"{{{{ {name} }}}}" for name in read)
    return TemplateResponse(request, engines["django"].from_string(names), dict(read))


@nudged_page(60)
def plain(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(product_names())


@nudged_page(60)
def template(request: Any) -> TemplateResponse:
    runs.append(request.path)
    products = product_names()
    return late(request, products=lambda: products, categories=category_names)


@nudged_page(60)
def lazy_template(request: Any) -> TemplateResponse:
    runs.append(request.path)
    return late(request, products=product_names, categories=category_names)


@transaction.non_atomic_requests
@nudged_page(60)
async def coroutine(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(",".join([each.name async for each in Product.objects.order_by("pk")]))


@transaction.non_atomic_requests
@nudged_page(60)
async def coroutine_template(request: Any) -> TemplateResponse:
    runs.append(request.path)
    products = ",".join([each.name async for each in Product.objects.order_by("pk")])
    return late(request, products=lambda: products, categories=category_names)


class Named(BaseAuthentication):  # type: ignore[misc]
    """By a header of its own, which names a user."""

    def authenticate(self, request: Any) -> tuple[Any, None] | None:
        name = request.META.get("HTTP_X_NAME")
        return None if name is None else (User.objects.get(username=name), None)


def shown_to(request: Any) -> str:
    runs.append(request.path)
    return f"{product_names()} for {request.user.username or 'nobody'}"


class ByGet(View):
    @method_decorator(nudged_page(60))
    def get(self, request: Any, pk: int = 0) -> HttpResponse:
        runs.append(request.path)
        return HttpResponse(f"{product_names()}{pk}")


@method_decorator(nudged_page(60), name="dispatch")
class ByDispatch(View):
    def get(self, request: Any, pk: int = 0) -> HttpResponse:
        runs.append(request.path)
        return HttpResponse(f"{product_names()}{pk}")


class ApiByGet(APIView):  # type: ignore[misc]
    authentication_classes = [Named]
    renderer_classes = [JSONRenderer]

    @method_decorator(nudged_page(60))
    def get(self, request: Any) -> Response:
        return Response({"text": shown_to(request)})


@method_decorator(nudged_page(60), name="dispatch")
class ApiByDispatch(APIView):  # type: ignore[misc]
    authentication_classes = [Named]
    renderer_classes = [JSONRenderer]

    def get(self, request: Any) -> Response:
        return Response({"text": shown_to(request)})


class Pages(ViewSet):  # type: ignore[misc]
    authentication_classes = [Named]
    renderer_classes = [JSONRenderer]

    @method_decorator(nudged_page(60))
    def list(self, request: Any) -> Response:
        return Response({"text": shown_to(request)})

    @method_decorator(nudged_page(60))
    def retrieve(self, request: Any, pk: int) -> Response:
        return Response({"text": f"{pk} {shown_to(request)}"})


@nudged_page(60)
def api_function(request: Any) -> Response:
    return Response({"text": shown_to(request)})


@nudged_page(60)
def lazy_api(request: Any) -> Response:
    runs.append(request.path)
    return Response(Product.objects.order_by("pk").values_list("name", flat=True))


VIEWS: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "template": template,
    "lazy_template": lazy_template,
    "coroutine": coroutine,
    "coroutine_template": coroutine_template,
    "by_get": ByGet.as_view(),
    "by_dispatch": ByDispatch.as_view(),
    "api_by_get": ApiByGet.as_view(),
    "api_by_dispatch": ApiByDispatch.as_view(),
    "api_list": Pages.as_view({"get": "list"}),
    "api_function": as_api(api_function, [Named]),
    "lazy_api": as_api(lazy_api),
}

OF_ITS_READER = ("api_by_get", "api_by_dispatch", "api_list", "api_function", "api_retrieve")

urlpatterns = [
    *(path(f"{name}/", view) for name, view in VIEWS.items()),
    path("by_get/<int:pk>/", ByGet.as_view()),
    path("api_retrieve/", Pages.as_view({"get": "retrieve"}), {"pk": 3}),
]


def ask(name: str, browser: type[Client | AsyncClient] = Client, who: str | None = None) -> str:
    client: Any = browser()
    asking = client.get if browser is Client else async_to_sync(client.get)
    response = asking(f"/{name}/", headers={} if who is None else {"X-Name": who})
    assert response.status_code == 200, response
    return str(response.content.decode())


def is_kept(asking: Callable[[], str]) -> bool:
    """Whether it is served without a run of its view, after two requests that may learn."""
    texts = {asking(), asking()}
    before = len(runs)
    texts.add(asking())
    assert len(texts) == 1, texts
    return len(runs) == before


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("name", VIEWS)
def test_a_page_depends_on_what_its_view_read(
    name: str, atomic: bool, real_sessions: NudgeFake
) -> None:
    Product.objects.create(name="one")
    with mock.patch.dict(connections.settings["default"], ATOMIC_REQUESTS=atomic):
        assert is_kept(lambda: ask(name))
        Product.objects.create(name="two")
        real_sessions.changed(Review)
        assert "two" not in ask(name)
        real_sessions.changed(Product)
        assert "two" in ask(name)
        assert is_kept(lambda: ask(name))


@pytest.mark.parametrize("browser", [Client, AsyncClient])
@pytest.mark.parametrize("name", ["template", "lazy_template", "coroutine_template"])
def test_what_the_rendering_reads_is_a_part_of_the_page(
    name: str, browser: type[Client | AsyncClient], real_sessions: NudgeFake
) -> None:
    Product.objects.create(name="shoe")
    Category.objects.create(name="red")
    assert is_kept(lambda: ask(name, browser))
    Category.objects.create(name="blue")
    assert "blue" not in ask(name, browser)
    real_sessions.changed(Category)
    assert ask(name, browser) == "shoe;red,blue"
    assert is_kept(lambda: ask(name, browser))
    real_sessions.changed(Product)
    before = len(runs)
    ask(name, browser)
    assert len(runs) == before + 1


UNSURE: dict[str, tuple[Callable[[], object], str]] = {
    "the clock": (lambda: execute("SELECT now()"), "it read the clock (now)"),
    "a write": (lambda: Category.objects.create(name="x"), "it ran INSERT"),
    "another database": (
        lambda: list(Product.objects.using("other")), "it queried the database 'other'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSURE)
def test_a_rendering_that_is_unsure_is_not_kept_and_said(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    read, why = UNSURE[what]

    @nudged_page(60)
    def view(request: Any) -> TemplateResponse:
        runs.append(request.path)
        products = product_names()
        return late(request, products=lambda: products, more=lambda: (read(), "")[1])

    assert not is_kept(lambda: str(view(get("/a")).render().content.decode()))
    assert why in caplog.text


def test_a_page_that_reads_nothing_is_not_kept_and_said(caplog: pytest.LogCaptureFixture) -> None:
    @nudged_page(60)
    def view(request: Any) -> TemplateResponse:
        runs.append(request.path)
        return late(request, nothing=lambda: "nothing")

    assert not is_kept(lambda: str(view(get("/a")).render().content.decode()))
    assert "it read nothing in the database" in caplog.text


def test_what_a_view_reads_counts_though_its_transaction_has_ended(
    real_sessions: NudgeFake,
) -> None:
    @nudged_page(60)
    def view(request: Any) -> TemplateResponse:
        runs.append(request.path)
        with transaction.atomic():
            products = product_names()
        return late(request, products=lambda: products, categories=category_names)

    def asking() -> str:
        return str(view(get("/a")).render().content.decode())

    assert is_kept(asking)
    for model in (Product, Category):
        before = len(runs)
        real_sessions.changed(model)
        asking()
        assert len(runs) == before + 1
        asking()
        assert len(runs) == before + 1


@pytest.mark.parametrize("name", OF_ITS_READER)
def test_an_api_s_page_is_its_reader_s(name: str, real_sessions: NudgeFake) -> None:
    """Who it is says a header, which an authentication class reads through its own request."""
    for username in ("ann", "bob"):
        User.objects.create(username=username)
    turns: tuple[str | None, ...] = ("ann", "bob", None, "bob", "ann", None, "ann")
    for who in turns:
        assert f"for {who or 'nobody'}" in ask(name, who=who)
    runs.clear()
    for who in turns:
        assert f"for {who or 'nobody'}" in ask(name, who=who)
    assert runs == []
    User.objects.filter(username="ann").update(username="eve")
    real_sessions.changed(User)
    with pytest.raises(User.DoesNotExist):
        ask(name, who="ann")


@pytest.mark.parametrize("observe", [None, True])
def test_dependencies_may_follow_from_the_arguments(
    observe: bool | None, real_sessions: NudgeFake, settings: Any
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "NUDGED": {"OBSERVE": "off"}}

    @nudged_page(60, depends_on=lambda request, pk: [nudged.row(Product, pk)], observe=observe)
    def view(request: Any, pk: int) -> HttpResponse:
        runs.append(request.path)
        return HttpResponse(f"{pk} {category_names()}")

    def asking() -> str:
        return str(view(get("/a"), 7).content.decode())

    def ended_by(model: Any, pk: int | None = None) -> bool:
        before = len(runs)
        real_sessions.changed(model, pk=pk)
        asking()
        return len(runs) > before

    assert is_kept(asking)
    assert not ended_by(Product, 8)
    assert ended_by(Product, 7)
    assert ended_by(Category) == bool(observe)
    assert not ended_by(Review)


def test_what_is_no_dependency_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"nudged_page\(depends_on=\['shop.Product'\]\)"):
        nudged_page(60, depends_on=["shop.Product"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="names nothing"):
        nudged_page(60, observe=False)


def test_declared_dependencies_are_checked_in_the_rendering_too(settings: Any) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "NUDGED": {"OBSERVE": "raise"}}

    @nudged_page(60, Product)
    def view(request: Any) -> TemplateResponse:
        return late(request, products=product_names, categories=category_names)

    with pytest.raises(UndeclaredError, match=r"reads shop\.Category and does not depend on it"):
        view(get("/a")).render()


def test_a_page_around_an_observed_one_ends_with_it(real_sessions: NudgeFake) -> None:
    @nudged_page(60)
    def inner(request: Any) -> TemplateResponse:
        runs.append(request.path)
        products = product_names()
        return late(request, products=lambda: products, categories=category_names)

    outer = nudged_page(60, Review)(inner)

    def asking() -> str:
        return str(outer(get("/a")).render().content.decode())

    assert is_kept(asking)
    for model in (Product, Category, Review):
        before = len(runs)
        real_sessions.changed(model)
        asking()
        asking()
        assert len(runs) > before or model is Review
