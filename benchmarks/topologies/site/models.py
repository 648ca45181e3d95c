"""A number in each row."""

from __future__ import annotations

from django.db import models


class Item(models.Model):
    number = models.BigIntegerField()

    class Meta:
        app_label = "site"

    def __str__(self) -> str:
        return str(self.number)
