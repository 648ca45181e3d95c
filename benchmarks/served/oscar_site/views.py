"""The shop's lists of products, from the database: Oscar's own come from a search engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from django.conf import settings
from django.shortcuts import get_object_or_404
from django.views.generic import ListView
from oscar.core.loading import get_model

Category: Final[Any] = get_model("catalogue", "Category")
Product: Final[Any] = get_model("catalogue", "Product")


class BrowseView(ListView):  # type: ignore[type-arg]
    """All products; with Oscar's template, which expects what a search engine finds."""

    template_name = "oscar/catalogue/browse.html"
    paginate_by = settings.OSCAR_PRODUCTS_PER_PAGE

    def get_queryset(self) -> Any:
        return Product.objects.browsable().base_queryset().order_by("-pk")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        found = [SimpleNamespace(object=product) for product in context["object_list"]]
        return context | {"products": found, "summary": "All products"}


class CategoryView(BrowseView):
    template_name = "oscar/catalogue/category.html"

    def get_queryset(self) -> Any:
        self.category = get_object_or_404(Category, pk=self.kwargs["pk"])
        below = self.category.get_descendants_and_self()
        return super().get_queryset().filter(categories__in=below).distinct()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"category": self.category}
