# ruff: noqa: DJ008 - nobody reads their __str__
"""Shelves in shelves, and books whose changes are remembered."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from mptt.models import MPTTModel, TreeForeignKey
from simple_history.models import HistoricalRecords


class Shelf(MPTTModel):
    name = models.CharField(max_length=50)
    parent = TreeForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="children"
    )


class Book(models.Model):
    title = models.CharField(max_length=50)
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)
    readers = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True)
    history = HistoricalRecords(m2m_fields=[readers])
