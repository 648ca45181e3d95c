"""The values the shop caches with ``nudged``: never stale, and nothing here names a cache key.

Each is stored with the moment it was made, so that the page can tell a hit from a miss.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict

from django.http import HttpRequest, JsonResponse

from django_pgnudge import nudged, nudged_page
from shop.models import Category, Product

if TYPE_CHECKING:
    from django.db.models import QuerySet

    Rows = list[list[str]]


class Made(TypedDict):
    """What was cached, and when it was made, in Unix seconds."""

    rows: Rows
    made: float


def _made(rows: Rows) -> Made:
    return {"rows": rows, "made": time.time()}


def _prices(products: QuerySet[Product]) -> Made:
    return _made([[product.name, str(product.price)] for product in products])


@nudged(Product, timeout=3600)
def menu() -> Made:
    """A change of any product ends it."""
    return _prices(Product.objects.order_by("pk"))


@nudged(depends_on=lambda pk: [nudged.row(Product, pk)])
def tag(pk: int) -> Made:
    """A change of this one product ends it."""
    return _prices(Product.objects.filter(pk=pk))


@nudged(Category)
def window() -> Made:
    """It uses nudged values, so it ends with each of them."""
    names = Category.objects.order_by("pk").values_list("name", flat=True)
    shelves = ["shelves", ", ".join(names)]
    return _made([shelves, *tag(1)["rows"], *tag(3)["rows"]])


@nudged()
def shelves() -> Made:
    """It names nothing: it ends with what it reads."""
    rows = []
    for category in Category.objects.order_by("pk"):
        names = category.products.order_by("pk").values_list("name", flat=True)
        rows.append([category.name, ", ".join(names)])
    return _made(rows)


def office() -> QuerySet[Product]:
    """For office.html, which does not name the tables that this reads."""
    return Product.objects.filter(categories__name="Office").order_by("pk")


@nudged_page(3600, Product)
def prices(request: HttpRequest) -> JsonResponse:
    """Kept once for each value of the cookie, since it reads that."""
    currency = request.COOKIES.get("currency", "EUR")
    products = Product.objects.order_by("pk")
    rows = [[each.name, f"{each.price} {currency}"] for each in products]
    return JsonResponse(_made(rows))
