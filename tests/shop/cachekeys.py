"""Rules beside the models, found by autodiscovery; and functions that settings name by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_pgnudge import invalidates
from tests.shop.models import Coupon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.events import Event

invalidates(Coupon, "coupons", "coupon:{pk}")

not_callable = 1


@invalidates(Coupon, cache="fast", version=3)
def coupon_keys(event: Event) -> list[str]:
    return ["fast-coupons"]


def order_keys(event: Event) -> object:
    """All that a callable may return."""
    if event.keys is None:
        return ["orders", "order:*"]
    return ["orders", {"key": "literal*"}, *(f"order:{key[0]}" for key in event.keys)]


def raises(event: Event) -> list[str]:
    raise RuntimeError("no keys today")


def raises_for_rows(event: Event) -> list[str]:
    if event.keys is not None:
        raise RuntimeError("no keys for rows")
    return ["all-of-it"]


def returns_nonsense(event: Event) -> object:
    return [1]


def returns_a_number(event: Event) -> object:
    return 1


def exits(event: Event) -> list[str]:
    raise SystemExit("no keys ever")


def returns_bytes(event: Event) -> object:
    return b"ab"


def fails_halfway(event: Event) -> Iterator[str]:
    yield "products"
    raise KeyboardInterrupt
