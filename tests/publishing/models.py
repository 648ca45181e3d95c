# ruff: noqa: DJ008 - nobody reads their __str__
"""Two tables, published one after the other."""

from __future__ import annotations

from django.db import models


class Thing(models.Model):
    name = models.CharField(max_length=50)
    others = models.ManyToManyField("self")


class Later(models.Model):
    name = models.CharField(max_length=50)
