"""What happens at a site of django-cacheops."""

from __future__ import annotations

import os
from typing import Any

from cacheops import cached_as
from cacheops.redis import redis_client

from tests.contrib.queries import QUERIES, build, counted, plain
from tests.shop.models import Category, Product

__all__ = ["build"]


def serve(prefix: str) -> None:
    """Be a tenant's process."""
    os.environ["TEST_PREFIX"] = prefix


@cached_as(Product.objects.filter(pk=1), Category)
def _pair() -> list[Any]:
    return [Product.objects.nocache().get(pk=1).name, Category.objects.nocache().count()]


def read(query: str) -> list[Any]:
    """The rows, and how many queries ran."""
    with counted() as ran:
        rows = _pair() if query == "pair" else plain(QUERIES[query]())
    return [rows, len(ran)]


def truth(query: str) -> list[Any]:
    if query == "pair":
        return [Product.objects.nocache().get(pk=1).name, Category.objects.nocache().count()]
    return plain(QUERIES[query]().nocache())


def put(key: str) -> None:
    """A key of somebody else, in the same Redis database."""
    redis_client.set(key, 1)


def there(key: str) -> bool:
    return bool(redis_client.exists(key))


def conditions() -> list[str]:
    return sorted(key.decode() for key in redis_client.scan_iter("*conj:*"))
