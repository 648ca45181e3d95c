"""What happens in a shop."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.core.loading import get_model
from oscar.test.factories import create_order, create_product

from tests.compat.oscar_site.urls import Category, Product, StockRecord

shoppers: dict[str, Client] = {}


def build() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    get_model("address", "Country").objects.create(
        iso_3166_1_a2="GB", name="GB", printable_name="United Kingdom"
    )
    get_user_model().objects.create_superuser("staff", "s@example.org", "secret")
    for number, crumbs in enumerate(("Books > Fiction", "Books > Fact", "Films > Drama"), 1):
        for copy in (1, 2):
            made = create_product(
                title=f"{crumbs[-4:]} {copy}",
                price=Decimal(10 * number),
                num_in_stock=5,
                attributes={"pages": str(100 * number)},
            )
            made.categories.add(create_from_breadcrumbs(crumbs))


def paths() -> list[str]:
    products = Product.objects.order_by("pk").values_list("pk", flat=True)
    categories = Category.objects.order_by("pk").values_list("pk", flat=True)
    return ["/menu/", *(f"/of/{pk}/" for pk in products), *(f"/in/{pk}/" for pk in categories)]


def _category(name: str) -> Any:
    return Category.objects.get(name=name)


def price() -> None:
    record = StockRecord.objects.order_by("pk")[0]
    record.price = Decimal("12.34")
    record.save()


def allocate() -> None:
    StockRecord.objects.order_by("pk")[0].allocate(1)


def order() -> None:
    create_order()


def move(name: str, below: str) -> None:
    _category(name).move(_category(below), pos="first-child")


def rename(name: str, new_name: str) -> None:
    """Through the dashboard, which rewrites what is below."""
    node = _category(name)
    client = Client()
    assert client.login(username="staff", password="secret")
    data = {
        "name": new_name, "slug": new_name.lower(), "description": "", "is_public": "on",
        "meta_title": "", "meta_description": "", "code": "", "exclude_from_menu": "",
    }  # fmt: skip
    where = {"position": "first-child", "ref_node": node.get_parent().pk if node.depth > 1 else ""}
    data |= {f"treebeard_{name}": value for name, value in where.items()}
    # As treebeard 4 calls them.
    data |= {"_position": where["position"], "_ref_node_id": where["ref_node"]}
    response = client.post(reverse("dashboard:catalogue-category-update", args=[node.pk]), data)
    assert response.status_code == 302, re.findall(r"error.{0,200}", response.content.decode())


def hide(name: str) -> None:
    node = _category(name)
    node.is_public = False
    node.save()


def attribute() -> None:
    product = Product.objects.order_by("pk")[0]
    product.attr.pages = "999"
    product.save()


def new_product(category: str) -> None:
    create_product(title="New", price=Decimal(3), num_in_stock=1).categories.add(
        _category(category)
    )


def delete_product() -> None:
    Product.objects.order_by("-pk")[0].delete()


def delete_category(name: str) -> None:
    _category(name).delete()


def fill() -> None:
    cache.set_many({"menu": 1, "product:1": 1, "product:2": 1, "other": 1})


def left() -> list[str]:
    return sorted(cache.get_many(["menu", "product:1", "product:2", "other"]))


def product_path() -> str:
    return str(Product.objects.order_by("pk")[0].get_absolute_url())


def put_in_basket(name: str) -> None:
    client = shoppers.setdefault(name, Client())
    product = Product.objects.order_by("pk")[0]
    response = client.post(reverse("basket:add", args=[product.pk]), {"quantity": 1})
    assert response.status_code == 302


def basket_shown(name: str, path: str) -> str:
    """The total that a page shows a shopper."""
    client = shoppers.setdefault(name, Client())
    response = client.get(path)
    assert response.status_code == 200
    found = re.search(r"basket-mini.*?</strong>\D*([\d.]+)", response.content.decode(), re.DOTALL)
    assert found, response.content.decode()
    return found[1]


def new_stock() -> None:
    partner = get_model("partner", "Partner").objects.order_by("pk")[0]
    for product in Product.objects.all():
        StockRecord.objects.update_or_create(
            product=product, partner=partner,
            defaults={"price": Decimal(5), "num_in_stock": 9, "partner_sku": f"sku {product.pk}"},
        )  # fmt: skip
