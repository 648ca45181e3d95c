# ruff: noqa: DJ008 - nobody reads their __str__
"""Models for the tests. Each says what is peculiar about its table."""

from __future__ import annotations

import uuid

from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=50)


class Product(models.Model):
    """Has an automatic many-to-many table, shop_product_categories."""

    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=9, decimal_places=2, default=0)
    categories = models.ManyToManyField(Category)


class CheapProduct(Product):
    """A proxy: the table of Product."""

    class Meta:
        proxy = True


class Review(models.Model):
    """Cascades. The database does it too, see the migration."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    stars = models.IntegerField()


class Place(models.Model):
    name = models.CharField(max_length=50)


class Restaurant(Place):
    """Multi-table inheritance: its primary key is the one of Place."""

    pizza = models.BooleanField(default=False)


class Bistro(Restaurant):
    """A second step of inheritance."""

    seats = models.IntegerField(default=0)


class Franchise(Place):
    """Multi-table inheritance with a primary key of its own."""

    place = models.OneToOneField(Place, on_delete=models.CASCADE, parent_link=True)
    code = models.CharField(max_length=9, primary_key=True)


class Item(models.Model):
    """In another schema, by Django's quoting."""

    class Meta:
        db_table = '"stock"."item"'


class Awkward(models.Model):
    """A name with about everything."""

    class Meta:
        db_table = "Preis.Liste, größe: INSERT"


class PriceList(models.Model):
    """Unmanaged; the migration makes it with SQL."""

    code = models.CharField(max_length=9, primary_key=True)

    class Meta:
        managed = False
        db_table = '"legacy"."price_list"'


class Token(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Day(models.Model):
    date = models.DateField(primary_key=True)


class Moment(models.Model):
    at = models.DateTimeField(primary_key=True)


class Rate(models.Model):
    value = models.DecimalField(primary_key=True, max_digits=6, decimal_places=2)


class Flag(models.Model):
    is_set = models.BooleanField(primary_key=True)


class Coupon(models.Model):
    code = models.CharField(max_length=20, primary_key=True)


class Line(models.Model):
    """A composite primary key."""

    pk = models.CompositePrimaryKey("order_id", "number")
    order_id = models.IntegerField()
    number = models.IntegerField()


class Order(models.Model):
    """Partitioned, so made by SQL. Its primary-key index has the columns the other way round."""

    pk = models.CompositePrimaryKey("id", "placed_on")
    id = models.IntegerField()
    placed_on = models.DateField()

    class Meta:
        managed = False
        db_table = "shop_order"
