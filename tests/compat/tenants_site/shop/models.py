# ruff: noqa: DJ008 - nobody reads their __str__
"""What each tenant has for itself."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
