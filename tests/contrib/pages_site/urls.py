"""The same list of products, cached by one means or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.template import Context, Engine
from django.urls import path
from django.views.decorators.cache import cache_page

from tests.shop.models import Product

if TYPE_CHECKING:
    from django.http import HttpRequest

_FRAGMENT = Engine(libraries={"cache": "django.templatetags.cache"}).from_string(
    "{% load cache %}{% cache 3600 list who %}{{ products.names }}{% endcache %}"
)


class Products:
    """Read when a template asks."""

    ran = 0

    def names(self) -> str:
        Products.ran += 1
        return ", ".join(Product.objects.order_by("pk").values_list("name", flat=True))


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Products().names())


def fragment(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_FRAGMENT.render(Context({"products": Products(), "who": 1})))


urlpatterns = [
    path("middleware/", page),
    path("cache_page/", cache_page(3600)(page)),
    path("cache_page/prefix/", cache_page(3600, key_prefix="products")(page)),
    path("cache/", fragment),
]
