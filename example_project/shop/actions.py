"""What the page's buttons do: writes of every kind, and not one line about a cache."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.db.models import F

from shop import sample
from shop.models import Category, Order, OrderLine, PageView, Product

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Action:
    """One button: its group, its words, the statement it stands for, and what it does."""

    name: str
    group: str
    title: str
    code: str
    run: Callable[[], str]


ACTIONS: dict[str, Action] = {}


def _action(group: str, title: str, code: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def register(run: Callable[[], str]) -> Callable[[], str]:
        name = run.__name__.replace("_", "-")
        ACTIONS[name] = Action(name, group, title, code, run)
        return run

    return register


def _execute(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: int = cursor.rowcount
        return rows


NO_PRODUCTS = "There are no products: load the sample again."


@_action("Through the ORM", "Save a product", "product.save()")
def save() -> str:
    product = Product.objects.filter(pk=1).first()
    if product is None:
        return NO_PRODUCTS
    product.price += 1
    product.save()
    return f"{product} costs {product.price}."


@_action(
    "Through the ORM",
    "Update without signals",
    "products.filter(pk=2).update(…)",
)
def update() -> str:
    rows = Product.objects.filter(pk=2).update(stock=F("stock") + 1)
    return "One more pack of filter papers." if rows else NO_PRODUCTS


@_action("Through the ORM", "Change a many-to-many", "category.products.add(product)")
def many_to_many() -> str:
    product = Product.objects.filter(pk=1).first()
    category = Category.objects.filter(pk=2).first()
    if product is None or category is None:
        return NO_PRODUCTS
    if category.products.filter(pk=product.pk).exists():
        category.products.remove(product)
        return f"{product} left “{category}”."
    category.products.add(product)
    return f"{product} joined “{category}”."


@_action("Through the ORM", "Place an order", "bulk_create(order_lines)")
def order() -> str:
    products = list(Product.objects.order_by("pk")[:2])
    if not products:
        return NO_PRODUCTS
    with transaction.atomic():
        placed = Order.objects.create(customer="You", placed_on=dt.date(2026, 11, 20))
        OrderLine.objects.bulk_create(
            OrderLine(order=placed, product=product, quantity=2, price=product.price)
            for product in products
        )
    return f"Order #{placed.pk} is placed: two tables, one commit."


@_action("Past the ORM", "Set a price", "UPDATE shop_product SET price = price + 1 WHERE id = 3")
def raw_sql() -> str:
    rows = _execute("UPDATE shop_product SET price = price + 1 WHERE id = 3")
    return "The desk lamp went up by 1." if rows else NO_PRODUCTS


@_action(
    "Past the ORM",
    "Delete an order, cascading",
    "DELETE FROM shop_order … -- its lines: ON DELETE CASCADE",
)
def cascade() -> str:
    rows = _execute("DELETE FROM shop_order WHERE id = (SELECT max(id) FROM shop_order)")
    if not rows:
        return "There is no order left: place one, or load the sample again."
    return "The newest order is gone; PostgreSQL deleted its lines."


@_action(
    "Past the ORM",
    "Insert into a partition",
    "INSERT INTO shop_pageview_2026q4 …",
)
def partition() -> str:
    _execute(
        "INSERT INTO shop_pageview_2026q4 (viewed_on, path) VALUES ('2026-11-15', '/products/2/')"
    )
    return "One more view, written into the partition of the fourth quarter."


@_action("Past the ORM", "Write and roll back", "UPDATE shop_product …; ROLLBACK")
def rollback() -> str:
    with transaction.atomic():
        _execute("UPDATE shop_product SET price = 0")
        transaction.set_rollback(True)
    return "Every price was 0 until the ROLLBACK. Nothing to nudge, nothing died."


@_action("In bulk", "500 rows at once", "bulk_create(500 page_views)")
def bulk() -> str:
    day = dt.date(2026, 10, 31)
    PageView.objects.bulk_create(PageView(viewed_on=day, path="/sale/") for _ in range(500))
    return "500 page views in one transaction: one event with a count of 500."


@_action("In bulk", "Truncate the orders", "TRUNCATE shop_order, shop_orderline")
def truncate_orders() -> str:
    _execute("TRUNCATE shop_order, shop_orderline")
    return "No order is left."


@_action("In bulk", "Truncate the products", "TRUNCATE shop_product CASCADE")
def truncate_products() -> str:
    _execute("TRUNCATE shop_product CASCADE")
    return "No product is left, nor what referred to one. Load the sample again to go on."


@_action("In bulk", "Load the sample again", "sample.load()")
def load_sample() -> str:
    sample.load()
    return "The sample data is back."
