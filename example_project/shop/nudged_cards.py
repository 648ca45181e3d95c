"""How the page reads the shop's nudged values: as the site does, and then the database beside.

A nudged value does not say whether it was a hit, but when it was made: before the look, or by it.
What was made by the look may have been kept or not. The next look tells.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from html import unescape
from inspect import unwrap
from typing import TYPE_CHECKING

from django.template.loader import render_to_string
from django.test import RequestFactory
from django.urls import reverse

from django_pgnudge.reader.queryset_tables import tables_of
from shop.cached import Reading, reading
from shop.models import Category
from shop.nudged_values import Made, menu, office, prices, shelves, tag, window

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from shop.nudged_values import Rows


@dataclass(frozen=True)
class NudgedCard:
    """One nudged value: how it is written, what ends it, how it is served, and the truth."""

    key: str
    title: str
    code: str
    ends: str
    serve: Callable[[HttpRequest], Made]
    compute: Callable[[HttpRequest], Rows]


def _fragment(request: HttpRequest) -> Made:
    html = render_to_string("shop/office.html", {"products": office()}, request)
    made = re.search(r'data-made="([\d.]+)"', html)
    assert made is not None, html
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    return {"rows": [list(row) for row in zip(cells[::2], cells[1::2], strict=True)],
            "made": float(made[1])}  # fmt: skip


def _office_tables() -> str:
    tables = {model._meta.db_table for model in tables_of(office(), "default").models}
    return ", ".join(sorted(tables))


def _shelves_tables() -> str:
    tables = sorted(shelves.tables or ())
    if not tables:
        return "PostgreSQL says what it reads, once it has run"
    return f"PostgreSQL said that it reads {', '.join(tables)}"


def _page_request(request: HttpRequest) -> HttpRequest:
    """What the visitor's browser would send to the address of the page."""
    page = RequestFactory().get(reverse("prices"), headers={"host": request.get_host()})
    page.COOKIES = request.COOKIES
    return page


def _page(request: HttpRequest) -> Made:
    made: Made = json.loads(prices(_page_request(request)).content)
    return made


def _page_truth(request: HttpRequest) -> Rows:
    made: Made = json.loads(unwrap(prices)(_page_request(request)).content)
    return made["rows"]


def _window_truth(request: HttpRequest) -> Rows:
    # The function itself would use the nudged values that are in the cache.
    shown = Category.objects.values_list("name", flat=True).order_by("pk")
    rows = [row for pk in (1, 3) for row in tag.__wrapped__(pk)["rows"]]
    return [["shelves", ", ".join(shown)], *rows]


def cards() -> list[NudgedCard]:
    return [
        NudgedCard(
            "menu()",
            "Menu",
            "@nudged(Product, timeout=3600)",
            "A change of any product ends it",
            lambda request: menu(),
            lambda request: menu.__wrapped__()["rows"],
        ),
        NudgedCard(
            "tag(3)",
            "Price tag of one row",
            "@nudged(depends_on=lambda pk: [nudged.row(Product, pk)])",
            "A change of this product ends it",
            lambda request: tag(3),
            lambda request: tag.__wrapped__(3)["rows"],
        ),
        NudgedCard(
            "window()",
            "Shop window",
            "@nudged(Category)",
            "pgnudge saw that it uses tag(1) and tag(3): it ends with them, too",
            lambda request: window(),
            _window_truth,
        ),
        NudgedCard(
            "shelves()",
            "Shelves",
            "@nudged()",
            _shelves_tables(),
            lambda request: shelves(),
            lambda request: shelves.__wrapped__()["rows"],
        ),
        NudgedCard(
            "fragment office",
            "Fragment of a queryset",
            "{% nudged 3600 office on products %}",
            f"pgnudge saw which tables the queryset reads: {_office_tables()}",
            _fragment,
            lambda request: [[p.name, f"{p.stock} left"] for p in office()],
        ),
        NudgedCard(
            "prices.json",
            "Page",
            "@nudged_page(3600, Product)",
            "pgnudge saw that it reads the cookie currency: it is kept once for each value",
            _page,
            _page_truth,
        ),
    ]


def read(card: NudgedCard, request: HttpRequest) -> Reading:
    began = time.time()
    found = card.serve(request)
    hit = found["made"] < began
    return reading(card.key, found, card.compute(request), hit=hit, kept=hit)
