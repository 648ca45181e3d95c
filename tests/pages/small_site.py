"""A small site behind `NudgedSiteMiddleware`: its views, its middleware, and who visits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import caches
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.utils.deprecation import MiddlewareMixin
from django.views import View

from django_pgnudge import never_nudged, nudged, nudged_page, nudged_site
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

SITE = "django_pgnudge.middleware.NudgedSiteMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
runs: list[str] = []
"""The paths that a view has run for."""


def products() -> str:
    return ",".join(Product.objects.order_by("pk").values_list("name", flat=True))


class Front:
    """The view at ``/``: what it shows besides the products is set by each test."""

    show: Callable[[Any], object] = staticmethod(lambda request: "")


def ready(fake: NudgeFake, settings: Any) -> None:
    """The site is ready, and nothing of it is kept."""
    settings.ROOT_URLCONF = __name__
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": [
                    "django.contrib.auth.context_processors.auth",
                    "django.template.context_processors.csrf",
                ]
            },
        }
    ]
    settings.MIDDLEWARE = [SITE, SESSIONS, COMMON, CSRF, AUTH, MESSAGES]
    settings.PGNUDGE = {"NUDGED": {"HEADER": True}}
    caches["default"].clear()
    fake.lease()
    # The first value of an epoch has a process read the catalogs; a page leaves it at that.
    nudged.get_or_set("first", 1, depends_on=["own"])
    runs.clear()


def front(request: Any) -> Any:
    runs.append(request.path)
    found: Any = Front.show(request)
    return found if isinstance(found, HttpResponse) else HttpResponse(f"{products()} {found}")


def raw(request: Any) -> Any:
    runs.append(request.path)
    return Front.show(request)


def shows(show: Callable[[Any], object]) -> None:
    Front.show = staticmethod(show)


class Visitor:
    def __init__(self, browser: type[Client | AsyncClient] = Client, **cookies: str) -> None:
        self.client: Any = browser()
        self.client.cookies.load(cookies)

    def copy(self) -> Visitor:
        """Another browser with the same cookies."""
        other = Visitor(type(self.client))
        other.client.cookies.update(self.client.cookies)
        return other

    def get(self, address: str = "/", **headers: str) -> Any:
        is_async = isinstance(self.client, AsyncClient)
        ask = async_to_sync(self.client.get) if is_async else self.client.get
        return ask(address, headers=headers)

    def head(self, address: str = "/") -> Any:
        return self.client.head(address)


def shown(response: Any) -> tuple[str, str]:
    """The text, and whether it is a hit, a miss, or why it was bypassed."""
    return response.content.decode().strip(), response.headers["X-Nudged"]


def says(visitor: Visitor, address: str = "/", **headers: str) -> str:
    return str(visitor.get(address, **headers).headers["X-Nudged"])


def learn(address: str = "/") -> None:
    """Have it known what this page's route reads, and keep nothing at other addresses."""
    Visitor().get(f"{address}?learn")
    Visitor().get(f"{address}?learn")


def is_kept(visitor: Visitor, address: str = "/", **headers: str) -> bool:
    for _ in range(3):
        said = says(visitor, address, **headers)
    return said == "hit"


def text_of(found: object) -> str:
    return found.content.decode() if isinstance(found, HttpResponse) else f"{found}"


def somebody(name: str) -> Visitor:
    visitor = Visitor()
    visitor.client.force_login(User.objects.get_or_create(username=name)[0])
    visitor.client.cookies["csrftoken"] = name[0] * 32
    return visitor


class Reading(MiddlewareMixin):
    """Middleware that reads a table before and after the view."""

    def process_request(self, request: Any) -> None:
        request.categories = list(Category.objects.all())

    def process_response(self, request: Any, response: Any) -> Any:
        response.headers["X-Reviews"] = str(Review.objects.count())
        return response


class OwnSessions(MiddlewareMixin):
    """A middleware of a project, which takes the session from a header."""

    def process_request(self, request: Any) -> None:
        request.session = SessionStore(request.headers.get("X-Session"))


class CookieFirst(MiddlewareMixin):
    """A middleware that reads the session's cookie for a purpose of its own."""

    def process_request(self, request: Any) -> None:
        request.short = request.COOKIES.get("sessionid", "nobody")[:3]


class Zones(MiddlewareMixin):
    """Activates what a cookie names, and leaves it there."""

    def process_request(self, request: Any) -> None:
        if (zone := request.COOKIES.get("zone")) is not None:
            timezone.activate(zone)
        if (language := request.COOKIES.get("language")) is not None:
            translation.activate(language)


class OtherUrls(MiddlewareMixin):
    """A middleware that chooses the URLs of a host."""

    def process_request(self, request: Any) -> None:
        request.urlconf = tuple(elsewhere)


@never_nudged
def never(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(products())


def calls_never(request: Any) -> Any:
    return never(request)


@method_decorator(never_nudged, name="dispatch")
class NeverByDispatch(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


class NeverByMethod(View):
    @method_decorator(never_nudged)
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


@never_nudged
async def never_async(request: Any) -> HttpResponse:
    return HttpResponse(",".join([each.name async for each in Product.objects.all()]))


@nudged_site
def marked(request: Any) -> HttpResponse:
    return HttpResponse(products())


class MarkedByMethod(View):
    @method_decorator(nudged_site)
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


@never_nudged
@nudged_page(60)
def nudged_alone(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(products())


def log_in(request: Any) -> HttpResponse:
    login(request, User.objects.get(username=request.POST["name"]))
    return HttpResponse()


def log_out(request: Any) -> HttpResponse:
    logout(request)
    return HttpResponse()


def say(request: Any) -> HttpResponse:
    messages.success(request, request.GET["text"])
    return HttpResponse(products())


def name(request: Any) -> HttpResponse:
    request.session["name"] = request.POST["name"]
    return HttpResponse()


def category(request: Any) -> HttpResponse:
    return HttpResponse(str(Category.objects.count()))


urlpatterns = [
    path("", front),
    path("raw/", raw),
    path("category/", category),
    path("login/", log_in),
    path("logout/", log_out),
    path("say/", say),
    path("name/", name),
    path("never/", never),
    path("calls_never/", calls_never),
    path("never_by_dispatch/", NeverByDispatch.as_view()),
    path("never_by_method/", NeverByMethod.as_view()),
    path("never_async/", never_async),
    path("marked/", marked),
    path("marked_by_method/", MarkedByMethod.as_view()),
    path("nudged_alone/", nudged_alone),
]


elsewhere = [path("elsewhere/", include(urlpatterns))]
