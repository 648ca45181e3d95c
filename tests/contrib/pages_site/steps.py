"""What happens at a site that caches pages."""

from __future__ import annotations

from typing import Any

from django.test import Client

from tests.contrib.pages_site.urls import Products
from tests.contrib.queries import build

__all__ = ["build"]


def read(path: str) -> list[Any]:
    """The page, and how often the products were read for it."""
    before = Products.ran
    body = Client().get(path).content.decode()
    return [body, Products.ran - before]


def truth(path: str) -> str:
    return Products().names()
