"""What happens at a site of django-cachalot."""

from __future__ import annotations

from typing import Any

from cachalot.api import cachalot_disabled, get_last_invalidation
from cachalot.signals import post_invalidation
from django.db import transaction

from tests.contrib.queries import QUERIES, build, counted, plain
from tests.shop.models import Product

__all__ = ["build", "get_last_invalidation"]


def read(query: str, using: str = "default") -> list[Any]:
    """The rows, and how many queries ran."""
    with counted() as ran:
        rows = plain(QUERIES[query]().using(using))
    return [rows, len(ran)]


def truth(query: str) -> list[Any]:
    with cachalot_disabled():
        return plain(QUERIES[query]())


def update(name: str) -> None:
    """With cachalot's own invalidation."""
    with transaction.atomic():
        Product.objects.filter(pk=1).update(name=name)


assert post_invalidation
