"""views: what is made in the usual ways has one name, in every process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_required, user_passes_test
from django.core.cache import caches
from django.http import HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.test import RequestFactory
from django.urls import reverse_lazy
from django.utils.decorators import decorator_from_middleware, method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_headers
from django.views.generic import ListView, TemplateView
from rest_framework.decorators import api_view  # type: ignore[import-untyped]
from rest_framework.viewsets import ViewSet  # type: ignore[import-untyped]

from django_pgnudge import nudged_condition, nudged_page
from django_pgnudge.log import forget_logged
from tests import ROOT
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


page = nudged_page(60, Product)


class Counting:
    """A view that tells how often it ran, which is not what it is."""

    runs = 0

    def __call__(self, request: Any) -> HttpResponse:
        type(self).runs += 1
        return HttpResponse()


def counted(request: Any) -> HttpResponse:
    Counting.runs += 1
    return HttpResponse()


class Rows(ListView):
    queryset = Product.objects.none()

    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return counted(request)


class CountedMethod(View):
    @method_decorator(page)
    def get(self, request: Any) -> HttpResponse:
        return counted(request)


class CountedActions(ViewSet):  # type: ignore[misc]
    authentication_classes = ()
    said = ""

    def list(self, request: Any) -> Any:
        return counted(request)


class Templates(TemplateView):
    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return counted(request)


def let_pass(view: Callable[..., Any]) -> Callable[..., Any]:
    return user_passes_test(lambda user: True)(view)


by_header = vary_on_headers("X-User")


class Staff:
    is_active = is_staff = is_authenticated = True


COMMON: dict[str, Callable[[], Callable[..., Any]]] = {
    "function": lambda: page(counted),
    "lambda": lambda: page(lambda request: counted(request) or None),
    "partial": lambda: page(functools.partial(counted)),
    "instance": lambda: page(Counting()),
    "login_required": lambda: page(by_header(login_required(let_pass(counted)))),
    "csrf_exempt": lambda: page(csrf_exempt(cache_control(max_age=5)(counted))),
    "above": lambda: csrf_exempt(vary_on_headers("Accept")(page(counted))),
    "middleware": lambda: page(decorator_from_middleware(GZipMiddleware)(counted)),
    "template": lambda: page(Templates.as_view(template_name="a.html", extra_context={"a": [1]})),
    "queryset": lambda: page(Rows.as_view(queryset=Product.objects.filter(name="a"))),
    "lazy": lambda: page(Templates.as_view(extra_context={"a": reverse_lazy("nowhere")})),
    "method": CountedMethod.as_view,
    "viewset": lambda: page(CountedActions.as_view({"get": "list"}, said="a")),
    "api_view": lambda: page(by_header(api_view(["GET"])(counted))),
    "admin": lambda: page(by_header(AdminSite(name="one").admin_view(counted, True))),
    "nested": lambda: page(nudged_condition(Product, etag=lambda request: "1")(counted)),
}


@pytest.mark.parametrize("name", COMMON)
def test_what_is_made_in_the_usual_ways_has_one_page_however_often_it_is_made(name: str) -> None:
    """As each process makes it, and `method_decorator` at each request."""
    Counting.runs = 0
    for _ in range(2):
        view = COMMON[name]()
        for _ in range(2):
            request: Any = get("/a", headers={"X-User": "1"})
            request.user = SimpleLazyObject(Staff)
            assert view(request).status_code == 200
    assert Counting.runs == 1


SCRIPT = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth",
    "django.contrib.admin", "django.contrib.sessions", "django.contrib.messages", "tests.shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}})
django.setup()
from django_pgnudge.pages import view_names
names = []
class Noted(view_names.ViewName):
    __slots__ = ()
    def __init__(self, view):
        super().__init__(view)
        names.append(self)
import django_pgnudge.pages.page as pages
pages.ViewName = Noted
from tests.pages.test_view_names import COMMON
del names[:]
for make in COMMON.values():
    make()
print(*[each.full() for each in names], sep="\\n")
"""


def test_a_view_has_one_name_in_every_process() -> None:
    def names(seed: str) -> list[str]:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False,
            env=environment, cwd=ROOT,
        )  # fmt: skip
        assert not made.returncode, made.stderr
        return made.stdout.splitlines()

    first = names("1")
    # One of them is nudged twice, and one is nudged when it is called.
    assert len(set(first)) == len(first) - 1 == len(COMMON) - 2
    assert names("2") == first
