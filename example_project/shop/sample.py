"""The sample data: the same rows with the same primary keys, however often it is loaded."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.db import connection, transaction

from shop.models import Category, Order, OrderLine, PageView, Product

CATEGORIES = {1: "Coffee", 2: "Office"}
PRODUCTS = [
    (1, "Espresso beans", "14.90", 42, [1]),
    (2, "Filter papers", "3.20", 310, [1, 2]),
    (3, "Desk lamp", "59.00", 17, [2]),
    (4, "Notebook", "6.50", 128, [2]),
    (5, "Moka pot", "31.00", 23, [1]),
]
ORDERS = [
    ("Ada", [(1, 2), (2, 1)]),
    ("Grace", [(3, 1)]),
    ("Edsger", [(4, 5), (1, 1)]),
    ("Barbara", [(5, 1), (1, 3)]),
    ("Donald", [(4, 12)]),
]
VIEWS = [("2026-10-05", 1, 7), ("2026-10-19", 3, 4), ("2026-11-02", 2, 5), ("2026-11-11", 1, 9)]
TABLES = (
    "shop_category, shop_product, shop_product_categories,"
    " shop_order, shop_orderline, shop_pageview"
)


def is_loaded() -> bool:
    return Product.objects.exists()


@transaction.atomic
def load() -> None:
    """Replace the shop's rows by the sample's."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
    Category.objects.bulk_create(Category(id=pk, name=name) for pk, name in CATEGORIES.items())
    prices = {pk: Decimal(price) for pk, _, price, _, _ in PRODUCTS}
    Product.objects.bulk_create(
        Product(id=pk, name=name, price=prices[pk], stock=stock)
        for pk, name, _, stock, _ in PRODUCTS
    )
    through = Product.categories.through
    through.objects.bulk_create(
        through(product_id=pk, category_id=category)
        for pk, _, _, _, categories in PRODUCTS
        for category in categories
    )
    for number, (customer, lines) in enumerate(ORDERS):
        order = Order.objects.create(customer=customer, placed_on=dt.date(2026, 11, 1 + number))
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product_id=pk, quantity=quantity, price=prices[pk])
            for pk, quantity in lines
        )
    PageView.objects.bulk_create(
        PageView(viewed_on=day, path=f"/products/{pk}/")
        for day, pk, count in VIEWS
        for _ in range(count)
    )
    with connection.cursor() as cursor:
        # Rows with a given primary key leave the sequence behind.
        for table in ("shop_category", "shop_product"):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
