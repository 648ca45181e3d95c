"""A site of pages that use something of their reader, each made in each of the usual ways.

A page's address is ``/<kind>/<use>/?cell=…``; `runs` counts how often its view ran in each cell.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.deprecation import MiddlewareMixin
from rest_framework.authentication import SessionAuthentication  # type: ignore[import-untyped]
from rest_framework.decorators import api_view, authentication_classes, renderer_classes  # type: ignore[import-untyped]
from rest_framework.renderers import JSONRenderer  # type: ignore[import-untyped]
from rest_framework.response import Response  # type: ignore[import-untyped]
from rest_framework.viewsets import ViewSet  # type: ignore[import-untyped]

from django_pgnudge import nudged_condition, nudged_page
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest

USES = ("session", "csrf", "messages", "cookie", "none")

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

SOURCE = """run={{ run }};{{ touched }}
{% if use == "session" %}user={{ user.username|default:"nobody-at-all" }};{% endif %}
{% if use == "csrf" %}{% csrf_token %}token={{ csrf_token }};{% endif %}
{% if use == "messages" %}{% for each in messages %}message={{ each }};{% endfor %}{% endif %}
"""

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": [("django.template.loaders.locmem.Loader", {"page.html": SOURCE})],
        },
    }
]

View = Callable[..., Any]

page: Callable[[View], View] = nudged_page(60, Product)
"""How the views of this site are nudged, except those below ``/site/``, which are not."""

runs: Counter[str] = Counter()
_lock = threading.Lock()


class Touching(MiddlewareMixin):
    """Adds to the context of every page that has one."""

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        if response.context_data is not None:
            response.context_data["touched"] = "touched;"
        return response


def ran(request: Any) -> int:
    cell = request.GET.get("cell", "")
    with _lock:
        runs[cell] += 1
        return runs[cell]


def words(request: Any, use: str, user: Any) -> str:
    text = f"run={ran(request)};"
    if use == "session":
        text += f"user={user.username or 'nobody-at-all'};"
    if use == "csrf":
        text += f"token={get_token(request)};"
    if use == "messages":
        text += "".join(f"message={each};" for each in messages.get_messages(request))
    return text


def marked(request: Any, use: str, response: Any) -> Any:
    if use == "cookie":
        response.set_cookie("visitor", request.headers["X-Visitor"])
    return response


def plain(use: str, nudge: Callable[[View], View] = page) -> View:
    @nudge
    def view(request: HttpRequest) -> Any:
        list(Product.objects.all())
        return marked(request, use, HttpResponse(words(request, use, request.user)))

    return view


def template(use: str, nudge: Callable[[View], View] = page) -> View:
    @nudge
    def view(request: HttpRequest) -> Any:
        list(Product.objects.all())
        context = {"use": use, "run": ran(request)}
        return marked(request, use, TemplateResponse(request, "page.html", context))

    return view


def authenticated_by(use: str) -> list[Any]:
    """Asking for the user is using the session, which only one column is to do."""
    return [SessionAuthentication] if use == "session" else []


def as_api(view: Callable[..., Any], authenticated_by: Sequence[Any] = ()) -> Callable[..., Any]:
    rendered = renderer_classes([JSONRenderer])(view)
    api: Callable[..., Any] = api_view(["GET"])(authentication_classes(authenticated_by)(rendered))
    return api


def api(use: str, nudge: Callable[[View], View] = page) -> View:
    @nudge
    def view(request: Any) -> Any:
        list(Product.objects.all())
        return marked(request, use, Response({"text": words(request, use, request.user)}))

    return as_api(view, authenticated_by(use))


def viewset(use: str, nudge: Callable[[View], View] = page) -> View:
    class Pages(ViewSet):  # type: ignore[misc]
        authentication_classes = authenticated_by(use)
        renderer_classes = [JSONRenderer]

        @method_decorator(nudge)
        def list(self, request: Any) -> Any:
            Product.objects.count()
            return marked(request, use, Response({"text": words(request, use, request.user)}))

    view: Callable[..., Any] = Pages.as_view({"get": "list"})
    return view


def coroutine(use: str, nudge: Callable[[View], View] = page) -> View:
    @transaction.non_atomic_requests
    @nudge
    async def view(request: Any) -> Any:
        [product async for product in Product.objects.all()]
        user = await request.auser() if use == "session" else None
        return marked(request, use, HttpResponse(words(request, use, user)))

    return view


def coroutine_template(use: str, nudge: Callable[[View], View] = page) -> View:
    @transaction.non_atomic_requests
    @nudge
    async def view(request: HttpRequest) -> Any:
        [product async for product in Product.objects.all()]
        context = {"use": use, "run": ran(request)}
        return marked(request, use, TemplateResponse(request, "page.html", context))

    return view


def streaming(use: str, nudge: Callable[[View], View] = page) -> View:
    @nudge
    def view(request: Any) -> Any:
        text = words(request, use, request.user)
        return marked(request, use, StreamingHttpResponse(iter([text])))

    return view


KINDS: dict[str, Callable[..., View]] = {
    each.__name__: each
    for each in (plain, template, api, viewset, coroutine, coroutine_template, streaming)
}


def products(request: Any) -> str:
    """Their names; who asks so writes one first."""
    if "X-Write" in request.headers:
        Product.objects.create(name="never")
    return ",".join(Product.objects.order_by("pk").values_list("name", flat=True))


def take_back(request: Any) -> None:
    """End the transaction that has written so that nothing was."""
    if "X-Write" in request.headers:
        transaction.set_rollback(True)


class Around(MiddlewareMixin):
    """One transaction for the request and its rendering."""

    def __call__(self, request: HttpRequest) -> Any:
        with transaction.atomic():
            response = self.get_response(request)
            take_back(request)
        return response


def taking_back(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator inside the transaction of ATOMIC_REQUESTS."""

    def inner(request: Any) -> Any:
        response = view(request)
        if "rendered" not in view.__name__:
            take_back(request)
        return response

    return inner


def products_plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(products(request))


def products_template(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "page.html", {"run": products(request)})


def products_rendered(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "page.html", {"run": lambda: products(request)})


def products_api(request: Any) -> Response:
    return Response({"text": products(request)})


def as_it_is(view: Callable[..., Any]) -> Callable[..., Any]:
    return view


PRODUCTS: dict[str, Callable[..., Any]] = {
    f"{view.__name__}-{name}": adapt(taking_back(nudge(view)))
    for view, adapt in (
        (products_plain, as_it_is),
        (products_template, as_it_is),
        (products_rendered, as_it_is),
        (products_api, as_api),
    )
    for name, nudge in (("page", nudged_page(60, Product)), ("tag", nudged_condition(Product)))
}
"""Whatever its view has written is taken back; of "rendered" by the middleware `Around`."""


def say(request: HttpRequest) -> HttpResponse:
    """Leave a message for the next page."""
    messages.success(request, request.GET["text"])
    return HttpResponse()


urlpatterns = [
    path("say/", say),
    *(path(f"{name}/", view) for name, view in PRODUCTS.items()),
    *(path(f"{kind}/{use}/", make(use)) for kind, make in KINDS.items() for use in USES),
    *(
        path(f"site/{kind}/{use}/", make(use, as_it_is))
        for kind, make in KINDS.items()
        for use in USES
    ),
]
