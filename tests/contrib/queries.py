"""What both sites read, and how they tell what came from a cache."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.db import connections
from django.db.models import Count

from tests.contrib.data import SEED, TOKEN
from tests.contrib.more.models import Dear, OrderOf2025
from tests.shop.models import (
    Awkward,
    Category,
    CheapProduct,
    Coupon,
    Item,
    Line,
    Order,
    PriceList,
    Product,
    Restaurant,
    Review,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERIES: dict[str, Callable[[], Any]] = {
    "products": lambda: Product.objects.order_by("pk").values_list("pk", "name"),
    "product 1": lambda: Product.objects.filter(pk=1).values_list("name"),
    "product 2": lambda: Product.objects.filter(pk=2).values_list("name"),
    "products 1 to 3": lambda: (
        Product.objects.filter(pk__in=[1, 2, 3]).order_by("pk").values_list("name")
    ),
    "named one": lambda: Product.objects.filter(name="one").values_list("pk"),
    "cheap": lambda: CheapProduct.objects.order_by("pk").values_list("pk", "name"),
    "count": lambda: Product.objects.filter(price=0).values("price").annotate(n=Count("pk")),
    "reviews of 1": lambda: Review.objects.filter(product=1).order_by("pk").values_list("stars"),
    "reviews of 2": lambda: Review.objects.filter(product=2).order_by("pk").values_list("stars"),
    "reviewed": lambda: Review.objects.order_by("pk").values_list("product__name", "stars"),
    "categories of 1": lambda: (
        Category.objects.filter(product=1).order_by("pk").values_list("name")
    ),
    "categories": lambda: Category.objects.order_by("pk").values_list("name"),
    "restaurants": lambda: Restaurant.objects.order_by("pk").values_list("name", "pizza"),
    "restaurant 1": lambda: Restaurant.objects.filter(pk=1).values_list("name", "pizza"),
    "items": lambda: Item.objects.order_by("pk").values_list("pk"),
    "prices": lambda: PriceList.objects.order_by("pk").values_list("pk"),
    "awkward": lambda: Awkward.objects.order_by("pk").values_list("pk"),
    "orders": lambda: Order.objects.order_by("id").values_list("id"),
    "orders of 2025": lambda: OrderOf2025.objects.order_by("id").values_list("id"),
    "dear": lambda: Dear.objects.order_by("pk").values_list("name"),
    "tokens": lambda: Token.objects.order_by("pk").values_list("pk"),
    "token 1": lambda: Token.objects.filter(pk=f"{TOKEN}1").values_list("pk"),
    "token 2": lambda: Token.objects.filter(pk=f"{TOKEN}2").values_list("pk"),
    "lines": lambda: Line.objects.order_by("order_id", "number").values_list("order_id", "number"),
    "coupons": lambda: Coupon.objects.order_by("pk").values_list("pk"),
}


def build() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    with connections["default"].cursor() as cursor:
        cursor.execute(SEED)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The SQL that runs inside."""
    ran: list[str] = []

    def note(execute: Any, sql: str, *given: Any) -> Any:
        ran.append(sql)
        return execute(sql, *given)

    with ExitStack() as stack:
        for alias in ("default", "replica"):
            stack.enter_context(connections[alias].execute_wrapper(note))
        yield ran


def plain(found: Any) -> list[list[str]]:
    """Rows as JSON has them."""
    rows = [row.items() if isinstance(row, dict) else row for row in found]
    return [[_text(value) for value in row] for row in rows]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.date) else str(value)
