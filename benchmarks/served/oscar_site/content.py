"""The shop's content, the same each time it is made, and who writes to it.

Kinds of items: `t` is a product's title, `s` its price in stock, `c` a category's name.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.core.loading import get_model
from oscar.test.factories import create_product

from benchmarks.served import marks

Category: Final[Any] = get_model("catalogue", "Category")
Product: Final[Any] = get_model("catalogue", "Product")
StockRecord: Final[Any] = get_model("partner", "StockRecord")

TREE: Final = {
    "Books": ("Fiction", "Fact", "Children", "Travel"),
    "Films": ("Drama", "Comedy", "Crime"),
    "Music": ("Jazz", "Folk", "Opera"),
}
WORDS: Final = ["blue", "old", "long", "quiet", "first", "last", "north", "wild", "small", "gold"]

RAW: Final = {
    "t": "UPDATE catalogue_product SET title = %s WHERE id = %s",
    "s": "UPDATE partner_stockrecord SET price = %s WHERE product_id = %s",
    "c": "UPDATE catalogue_category SET name = %s WHERE id = %s",
}
"""By kind: what is written past Django."""


def value(kind: str, number: int, version: int) -> Any:
    """An item's text, or its price."""
    if kind == "s":
        return Decimal(marks.price(number, version))
    word = random.Random(number).choice(WORDS).capitalize()
    return f"{word} {marks.text(kind, number, version)}"


def build(products: int) -> None:
    """The tables, and ``products`` products."""
    Path(settings.MEDIA_ROOT).mkdir(exist_ok=True)
    warnings.simplefilter("ignore")  # haystack: this search engine keeps no index
    call_command("migrate", verbosity=0, interactive=False)
    get_model("address", "Country").objects.create(
        iso_3166_1_a2="GB", name="GB", printable_name="United Kingdom"
    )
    leaves = [
        create_from_breadcrumbs(f"{top} > {below}") for top, all_ in TREE.items() for below in all_
    ]
    rng = random.Random(products)
    for number in range(products):
        made = create_product(
            upc=str(number), title="unnamed", product_class="Article", partner_name="Stock",
            partner_sku=f"sku {number}", price=Decimal(1), num_in_stock=100,
            attributes={"pages": str(rng.randrange(50, 900)), "colour": rng.choice(WORDS)},
            description=" ".join(rng.choices(WORDS, k=80)),
        )  # fmt: skip
        made.categories.add(rng.choice(leaves))
        made.title = value("t", made.pk, 0)
        made.save()
        StockRecord.objects.filter(product=made).update(price=value("s", made.pk, 0))
    for category in Category.objects.all():
        category.name = value("c", category.pk, 0)
        category.save()


def paths() -> list[str]:
    """Of the catalogue: all products, each category, each product."""
    return [
        "/catalogue/",
        *(each.get_absolute_url() for each in Category.objects.order_by("path")),
        *(each.get_absolute_url() for each in Product.objects.order_by("-pk")),
    ]


def items() -> Mapping[str, list[int]]:
    """The numbers of each kind that may be written."""
    products = list(Product.objects.order_by("-pk").values_list("pk", flat=True))
    categories = list(Category.objects.order_by("path").values_list("pk", flat=True))
    return {"t": products, "s": products, "c": categories}


class Through:
    """The shop's own code, by the ORM."""

    def write(self, kind: str, number: int, value: Any) -> None:
        if kind == "s":
            found = StockRecord.objects.get(product_id=number)
            found.price = value
        elif kind == "t":
            found = Product.objects.get(pk=number)
            found.title = value
        else:
            found = Category.objects.get(pk=number)
            found.name = value
        found.save()
