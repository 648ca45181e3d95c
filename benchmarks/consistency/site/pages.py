"""Pages for two users and an anonymous one, which show rows and whom they are for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path

from benchmarks.consistency.site.models import Product
from django_pgnudge import nudged_page, nudged_site

LASTS: Final = 3600


class _Made(threading.local):
    count = 0


made = _Made()
"""How often a view of this thread has run."""


def _rows(row: int) -> list[Any]:
    made.count += 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'product', id, version FROM product WHERE id = %s", [row])
        return list(cursor.fetchall())


@nudged_page(LASTS, Product)
def everybody(_: HttpRequest, row: int) -> HttpResponse:
    """The same for all."""
    return JsonResponse({"rows": _rows(row), "name": None})


@nudged_page(LASTS, Product)
def mine(request: HttpRequest, row: int) -> HttpResponse:
    """With the name of who is logged in."""
    return JsonResponse({"rows": _rows(row), "name": request.session.get("name", "")})


@nudged_page(LASTS, Product)
def late(request: HttpRequest, row: int) -> HttpResponse:
    """The same, rendered after the view."""
    words = '{"rows": {{ rows|safe }}, "name": "{{ request.session.name }}"}'
    template: Any = engines["django"].from_string(words)
    return TemplateResponse(request, template, {"rows": json.dumps(_rows(row))})


@nudged_page(LASTS)
def unnamed(request: HttpRequest, row: int) -> HttpResponse:
    """The same without a dependency named."""
    return JsonResponse({"rows": _rows(row), "name": request.session.get("name", "")})


@nudged_site
def whole(request: HttpRequest, row: int) -> HttpResponse:
    """The same, kept by the middleware of the whole site."""
    return JsonResponse({"rows": _rows(row), "name": request.session.get("name", "")})


class TemplateMiddleware:
    """Does nothing, but has Django render after it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_template_response(self, _: HttpRequest, response: Any) -> Any:
        return response


urlpatterns = [
    path("everybody/<int:row>", everybody),
    path("mine/<int:row>", mine),
    path("late/<int:row>", late),
    path("unnamed/<int:row>", unnamed),
    path("whole/<int:row>", whole),
]
