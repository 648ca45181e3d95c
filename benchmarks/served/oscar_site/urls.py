"""Oscar's own, but for the lists of products."""

from __future__ import annotations

from django.apps import apps
from django.urls import include, path, re_path

from benchmarks.served.oscar_site.views import BrowseView, CategoryView

urlpatterns = [
    path("catalogue/", BrowseView.as_view()),
    re_path(r"^catalogue/category/[\w/-]+_(?P<pk>\d+)/$", CategoryView.as_view()),
    path("", include(apps.get_app_config("oscar").urls[0])),
]
