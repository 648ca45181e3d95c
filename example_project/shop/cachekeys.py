"""Rules beside the models; django_pgnudge finds this module as admin finds ``admin.py``.

The rules for products and categories are in ``settings.PGNUDGE``: both places have the same power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_pgnudge import invalidates
from shop.models import Order, OrderLine, PageView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_pgnudge.events import Event

invalidates(Order, "orders")
invalidates(OrderLine, "orders", "sales")


@invalidates(PageView)
def months(event: Event) -> Iterable[str]:
    """Only the months of the rows: their primary keys have the day."""
    if event.keys is None:
        return ["views:*"]
    return {f"views:{str(day)[:7]}" for _, day in event.keys}
