"""Wagtail's own, with its view for pages below `nudged_page` and every table that pages show."""

from __future__ import annotations

from django.contrib.auth import views as auth_views
from django.urls import include, path, re_path
from wagtail import urls as wagtail_urls
from wagtail import views as wagtail_views
from wagtail.admin import urls as admin_urls
from wagtail.urls import serve_pattern

from django_pgnudge import nudged_page
from tests.compat.pages import counted

TABLES = (
    "wagtailcore.Page",
    "wagtailcore.Site",
    "wagtailcore.Locale",
    "wagtailcore.PageViewRestriction",
    "wagtail_site.HomePage",
    "wagtail_site.ArticlePage",
    "wagtail_site.ArticleTag",
    "wagtail_site.Author",
    "wagtail_site.Banner",
    "taggit.Tag",
    "contenttypes.ContentType",
)

urlpatterns = [
    path("admin/", include(admin_urls)),
    path("login/", auth_views.LoginView.as_view()),
    re_path(
        serve_pattern, nudged_page(600, *TABLES)(counted(wagtail_views.serve)), name="wagtail_serve"
    ),
    path("", include(wagtail_urls)),
]
