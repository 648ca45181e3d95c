"""Oscar's own pages, some of them below `nudged_page`, and pages of a shop's own."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from oscar.core.loading import get_class, get_model

from django_pgnudge import nudged, nudged_page
from tests.compat.pages import counted

Category = get_model("catalogue", "Category")
Product = get_model("catalogue", "Product")
StockRecord = get_model("partner", "StockRecord")
Selector = get_class("partner.strategy", "Selector")
CatalogueView = get_class("catalogue.views", "CatalogueView")
ProductDetailView = get_class("catalogue.views", "ProductDetailView")

TABLES = (
    Category, Product, StockRecord, "catalogue.ProductClass", "catalogue.ProductCategory",
    "catalogue.ProductAttributeValue", "catalogue.ProductImage", "catalogue.Option",
    "partner.Partner",
)  # fmt: skip


@nudged(depends_on=lambda pk: [nudged.row(Product, pk), StockRecord, "catalogue.ProductClass"])
def offered(pk: int) -> list[str]:
    """What Oscar's strategy says: price, tax and whether it can be bought."""
    info = Selector().strategy().fetch_for_product(Product.objects.get(pk=pk))
    price = info.price.incl_tax if info.price.exists else None
    return [str(price), str(info.availability.is_available_to_buy), str(info.availability.message)]


def menu(request: Any) -> HttpResponse:
    tree = [[node.full_name, node.get_absolute_url(), node.depth] for node in
            Category.objects.order_by("path")]  # fmt: skip
    return JsonResponse(tree, safe=False)


def category(request: Any, pk: int) -> HttpResponse:
    node = Category.objects.get(pk=pk)
    below = node.get_descendants_and_self()
    found = Product.objects.public().filter(categories__in=below).distinct().order_by("pk")
    lines = [[product.get_title(), *offered(product.pk)] for product in found]
    return JsonResponse({"name": node.full_name, "products": lines})


def product(request: Any, pk: int) -> HttpResponse:
    found = Product.objects.get(pk=pk)
    names = [each.full_name for each in found.get_categories().order_by("path")]
    attributes = {value.attribute.code: value.value_as_text
                  for value in found.attribute_values.select_related("attribute")}  # fmt: skip
    return JsonResponse([found.get_title(), names, attributes, offered(pk)], safe=False)


def kept(view: Any) -> Any:
    return nudged_page(600, *TABLES, "catalogue.ProductAttribute")(counted(view))


urlpatterns = [
    path("menu/", kept(menu)),
    path("in/<int:pk>/", kept(category)),
    path("of/<int:pk>/", kept(product)),
    path("catalogue/", kept(CatalogueView.as_view())),
    path("catalogue/<slug:product_slug>_<int:pk>/", kept(ProductDetailView.as_view())),
    path("", include(apps.get_app_config("oscar").urls[0])),
]
