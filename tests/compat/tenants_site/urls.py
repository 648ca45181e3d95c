"""One page, for each tenant its own, and what nudged functions say."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.http import HttpResponse
from django.urls import path

from django_pgnudge import nudged, nudged_page
from tests.compat.pages import counted
from tests.compat.tenants_site.shared.models import Plan
from tests.compat.tenants_site.shop.models import Product


@nudged(Product)
def total() -> int:
    return sum(Product.objects.values_list("price", flat=True))


def listed(request: Any) -> HttpResponse:
    lines = [f"{product.name} {product.price}" for product in Product.objects.order_by("pk")]
    plans = list(Plan.objects.values_list("price", flat=True))
    return HttpResponse("\n".join([connection.schema_name, *lines, f"{total()}", f"{plans}"]))


urlpatterns = [path("", nudged_page(600, Product, Plan)(counted(listed)))]
