"""What is read in the benchmark of hits, and how each contender reads it.

Each runs in a process with its own apps installed, as two of them change how Django queries.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.cache import cache
from shop import models

from django_pgnudge import nudged

Read = Callable[[], Any]
ARead = Callable[[], Awaitable[Any]]

PRODUCT: Final[Any] = models.Product
ROWS: Final = 20


def _one_column() -> list[Any]:
    return list(PRODUCT.objects.filter(pk=7).values_list("name", flat=True))


def _one_row() -> list[Any]:
    return list(PRODUCT.objects.filter(pk=7))


def _some_rows() -> list[Any]:
    return list(PRODUCT.objects.order_by("pk")[:ROWS])


CASES: Final[dict[str, Read]] = {
    "one column of one row": _one_column,
    "one row": _one_row,
    f"{ROWS} rows": _some_rows,
}


def plain(case: str) -> Read:
    """``cache.get`` of the value; nothing keeps it fresh."""
    key = f"plain:{case}".replace(" ", "-")
    cache.set(key, CASES[case]())
    return lambda: cache.get(key)


def ours(case: str) -> Read:
    """A nudged function that queries."""
    read: Read = nudged(PRODUCT)(CASES[case])
    return read


def queryset(case: str) -> Read:
    """The query itself, which cachalot and cacheops answer from their caches."""
    return CASES[case]


def plain_async(case: str) -> ARead:
    """``cache.aget``."""
    key = f"plain:{case}".replace(" ", "-")
    cache.set(key, CASES[case]())
    return lambda: cache.aget(key)


async def _compute(case: str) -> Any:
    return await sync_to_async(CASES[case])()


def ours_async(case: str) -> ARead:
    """A nudged coroutine function."""
    return functools.partial(nudged(PRODUCT)(_compute), case)


READERS: Final[dict[str, Callable[[str], Read]]] = {
    "cache.get": plain,
    "nudged": ours,
    "queryset": queryset,
}
ASYNC_READERS: Final[dict[str, Callable[[str], ARead]]] = {
    "cache.aget": plain_async,
    "nudged, async": ours_async,
}
