"""Tables whose rows say which version they are; `version` comes from the sequence `versions`."""

# ruff: noqa: DJ008 - nobody reads their __str__
from __future__ import annotations

from typing import Any, Final

from django.db import models

SEQUENCE: Final = "versions"


class Versioned(models.Model):
    """A row that keeps its id and changes its version."""

    id = models.IntegerField(primary_key=True)
    version = models.BigIntegerField()
    note = models.TextField(default="")

    objects: models.Manager[Any] = models.Manager()

    class Meta:
        abstract = True


class Product(Versioned):
    class Meta:
        db_table = "product"


class Price(Versioned):
    class Meta:
        db_table = "price"


class Stock(Versioned):
    """Thousands of rows, of which the first few are read: for big transactions."""

    class Meta:
        db_table = "stock"


class Sale(models.Model):
    """Rows that come and go in batches; the newest batch and the number of rows are read."""

    id = models.BigAutoField(primary_key=True)
    version = models.BigIntegerField()

    objects: models.Manager[Any] = models.Manager()

    class Meta:
        db_table = "sale"


class Part(Versioned):
    """Partitioned by a zone, which an UPDATE may change: see tables.py."""

    class Meta:
        db_table = "part"
        managed = False


class Parent(Versioned):
    """With a table that inherits from it and holds half of the rows."""

    class Meta:
        db_table = "parent"
        managed = False


class AcmeItem(Versioned):
    """One tenant's, by the table's whole name."""

    class Meta:
        db_table = '"acme"."item"'
        managed = False


class UmbrellaItem(Versioned):
    """The other tenant's."""

    class Meta:
        db_table = '"umbrella"."item"'
        managed = False


class Item(Versioned):
    """The table of the tenant at hand, by search_path."""

    class Meta:
        db_table = "item"
        managed = False


class RoutedPrice(Versioned):
    """Prices, read from whichever database the router names."""

    class Meta:
        db_table = "price"
        managed = False


class Canary(Versioned):
    """Changed by the benchmark itself, to see whether the daemon is live."""

    class Meta:
        db_table = "canary"


ROWS: Final[dict[str, tuple[type[Versioned], int, int]]] = {
    "product": (Product, 16, 16),
    "price": (Price, 16, 16),
    "stock": (Stock, 3000, 8),
    "part": (Part, 9, 9),
    "parent": (Parent, 8, 8),
    "acme.item": (AcmeItem, 6, 6),
    "umbrella.item": (UmbrellaItem, 6, 6),
}
"""Tables by name: the model, how many rows there are, and how many of them are read."""

RULED: Final = ("product", "price", "stock")
"""Those whose single rows have plain keys with rules."""

LEAVING: Final = ("part", "parent")
"""Those of which a part may be away for a while, and its rows with it."""

PUBLISHED: Final = (*ROWS, "sale", "canary")
