"""The values the shop caches, and how it reads them: plain cache-aside, no invalidation anywhere.

Those that it caches with ``nudged`` are in nudged_values.py. ``read`` tells what a cached page
would not: whether it was a hit, how old the value is, and whether the database would say the same
at this moment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.cache import cache
from django.db.models import Count, F, Sum

from shop.models import Order, OrderLine, PageView, Product

if TYPE_CHECKING:
    from collections.abc import Callable

    Rows = list[list[str]]


@dataclass(frozen=True)
class Value:
    """One cached value: its key, what it is, which tables it is made from, and how."""

    key: str
    title: str
    tables: str
    compute: Callable[[], Rows]


@dataclass(frozen=True)
class Reading:
    """What one read of a value found."""

    key: str
    rows: Rows
    made: float
    age: float
    hit: bool
    kept: bool
    """Whether it is known to be in the cache: what ``nudged`` has computed may not be."""
    fresh: bool
    truth: Rows | None
    """What the database says, where that is something else."""


def reading(key: str, found: Any, truth: Rows, *, hit: bool, kept: bool) -> Reading:
    """What was found under a key, rows and the time they were made, beside the truth."""
    rows, made = found["rows"], found["made"]
    return Reading(
        key=key,
        rows=rows,
        made=made,
        age=max(0.0, time.time() - made),
        hit=hit,
        kept=kept,
        fresh=rows == truth,
        truth=None if rows == truth else truth,
    )


def _money(amount: Any) -> str:
    return f"{amount or 0:.2f}"


def _products() -> Rows:
    return [[p.name, f"{p.price} · {p.stock} left"] for p in Product.objects.order_by("pk")]


def _product(pk: int) -> Callable[[], Rows]:
    def compute() -> Rows:
        product = Product.objects.filter(pk=pk).first()
        if product is None:
            return []
        return [
            ["name", product.name],
            ["price", str(product.price)],
            ["stock", str(product.stock)],
        ]

    return compute


def _price(pk: int) -> Callable[[], Rows]:
    return lambda: [[p.name, str(p.price)] for p in Product.objects.filter(pk=pk)]


def _category(pk: int) -> Callable[[], Rows]:
    def compute() -> Rows:
        products = Product.objects.filter(categories=pk).order_by("pk")
        return [[product.name, str(product.price)] for product in products]

    return compute


def _orders() -> Rows:
    orders = Order.objects.annotate(total=Sum(F("lines__quantity") * F("lines__price")))
    return [[f"#{o.pk} {o.customer}", _money(o.total)] for o in orders.order_by("-pk")[:5]]


def _sales() -> Rows:
    sums = OrderLine.objects.aggregate(
        lines=Count("pk"), units=Sum("quantity"), revenue=Sum(F("quantity") * F("price"))
    )
    return [
        ["order lines", str(sums["lines"])],
        ["units", str(sums["units"] or 0)],
        ["revenue", _money(sums["revenue"])],
    ]


def _views(year: int, month: int) -> Callable[[], Rows]:
    def compute() -> Rows:
        views = PageView.objects.filter(viewed_on__year=year, viewed_on__month=month)
        counts = views.values("path").annotate(n=Count("*")).order_by("-n", "path")
        return [[row["path"], str(row["n"])] for row in counts]

    return compute


VALUES = [
    Value("products", "Product list", "shop_product", _products),
    Value("product:1", "Product page 1", "shop_product", _product(1)),
    Value("product:2", "Product page 2", "shop_product", _product(2)),
    Value("price:3", "Price tag 3", "shop_product", _price(3)),
    Value("category:1", "Category “Coffee”", "shop_product, many-to-many", _category(1)),
    Value("category:2", "Category “Office”", "shop_product, many-to-many", _category(2)),
    Value("orders", "Latest orders", "shop_order, shop_orderline", _orders),
    Value("sales", "Sales", "shop_orderline", _sales),
    Value("views:2026-10", "Views, October", "shop_pageview (partitioned)", _views(2026, 10)),
    Value("views:2026-11", "Views, November", "shop_pageview (partitioned)", _views(2026, 11)),
]


def read(value: Value) -> Reading:
    """Read through the cache, then ask the database what it would have said."""
    entry = cache.get(value.key)
    hit = entry is not None
    if not hit:
        entry = {"rows": value.compute(), "made": time.time()}
        cache.set(value.key, entry)
    return reading(value.key, entry, value.compute(), hit=hit, kept=True)
