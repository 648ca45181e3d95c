# ruff: noqa: DJ008 - nobody reads their __str__
"""A view, and a partition by itself. The sites make the view by SQL."""

from __future__ import annotations

from django.db import models


class Dear(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "more_dear"


class OrderOf2025(models.Model):
    pk = models.CompositePrimaryKey("id", "placed_on")
    id = models.IntegerField()
    placed_on = models.DateField()

    class Meta:
        managed = False
        db_table = "shop_order_2025"
