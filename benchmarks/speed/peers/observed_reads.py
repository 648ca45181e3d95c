"""What is read in the benchmark of observed values, and how each contender reads it.

A hit reads a row each of so many tables. A miss runs so many queries; its argument tells one call
from another, so that no cache has seen it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.apps import apps
from django.core.cache import cache
from django.db.models import Model

from django_pgnudge import nudged

Read = Callable[[], Any]
ReadNew = Callable[[int], Any]

MODELS: Final[list[type[Model]]] = [
    apps.get_model(label)
    for label in (
        "shop.Product", "shop.Category", "shop.Product_categories", "shop.Order", "shop.OrderLine",
        "auth.User", "auth.Group", "auth.Permission", "auth.User_groups",
        "auth.User_user_permissions", "auth.Group_permissions", "contenttypes.ContentType",
        "flatpages.FlatPage", "sites.Site",
    )
]  # fmt: skip
PRODUCT: Final = MODELS[0]


def of_one() -> list[Any]:
    """A row of one table."""
    return [
        list(model._default_manager.order_by("pk").values_list("pk")[:1]) for model in MODELS[:1]
    ]


def of_all() -> list[Any]:
    """A row of each table."""
    return [list(model._default_manager.order_by("pk").values_list("pk")[:1]) for model in MODELS]


@nudged(*MODELS[:1])
def declared_one() -> list[Any]:
    return of_one()


@nudged(*MODELS)
def declared_all() -> list[Any]:
    return of_all()


@nudged()
def observed_one() -> list[Any]:
    return of_one()


@nudged()
def observed_all() -> list[Any]:
    return of_all()


def _plain(read: Read) -> Read:
    """``cache.get`` of the value; nothing keeps it fresh."""
    key = f"plain:{read.__name__}"
    cache.set(key, read())
    return lambda: cache.get(key)


def one_query(argument: int) -> list[Any]:
    return [argument, PRODUCT._default_manager.values_list("name").get(pk=1)]


def twenty_queries(argument: int) -> list[Any]:
    names = PRODUCT._default_manager.values_list("name")
    return [argument, *(names.get(pk=number) for number in range(1, 21))]


@nudged(PRODUCT)
def declared_one_query(argument: int) -> list[Any]:
    return one_query(argument)


@nudged(PRODUCT)
def declared_twenty_queries(argument: int) -> list[Any]:
    return twenty_queries(argument)


@nudged()
def observed_one_query(argument: int) -> list[Any]:
    return one_query(argument)


@nudged()
def observed_twenty_queries(argument: int) -> list[Any]:
    return twenty_queries(argument)


HITS: Final[dict[int, dict[str, Callable[[], Read]]]] = {
    1: {
        "cache.get": lambda: _plain(of_one),
        "declared": lambda: declared_one,
        "observed": lambda: observed_one,
        "queries": lambda: of_one,
    },
    len(MODELS): {
        "cache.get": lambda: _plain(of_all),
        "declared": lambda: declared_all,
        "observed": lambda: observed_all,
        "queries": lambda: of_all,
    },
}
"""By the number of tables; what the queries read comes from cachalot's cache."""

MISSES: Final[dict[int, dict[str, ReadNew]]] = {
    1: {
        "queries": one_query,
        "declared": declared_one_query,
        "observed": observed_one_query,
    },
    20: {
        "queries": twenty_queries,
        "declared": declared_twenty_queries,
        "observed": observed_twenty_queries,
    },
}
"""By the number of queries."""
