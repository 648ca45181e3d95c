"""The shop's tables: many-to-many, a cascade of the database's own, and a partitioned table."""

from __future__ import annotations

from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=60, unique=True)

    class Meta:
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    name = models.CharField(max_length=80, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)
    categories = models.ManyToManyField(Category, related_name="products")

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    customer = models.CharField(max_length=80)
    placed_on = models.DateField()

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"


class OrderLine(models.Model):
    """PostgreSQL deletes a line with its order. Django does not take part.

    The foreign keys' constraints, with ON DELETE CASCADE, are made in the first migration.
    """

    order = models.ForeignKey(Order, models.DO_NOTHING, related_name="lines", db_constraint=False)
    product = models.ForeignKey(
        Product, models.DO_NOTHING, related_name="lines", db_constraint=False
    )
    quantity = models.PositiveIntegerField(default=1)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id}"


class PageView(models.Model):
    """One look at a product; partitioned by quarter, so PostgreSQL's log names the partitions."""

    pk = models.CompositePrimaryKey("id", "viewed_on")
    id = models.BigIntegerField(
        db_default=models.Func(models.Value("shop_pageview_id_seq"), function="nextval")
    )
    viewed_on = models.DateField()
    path = models.CharField(max_length=120)

    class Meta:
        managed = False
        db_table = "shop_pageview"

    def __str__(self) -> str:
        return f"{self.path} on {self.viewed_on}"
