# ruff: noqa: DJ008 - pages have one of their own
"""A page tree with a menu, breadcrumbs, rich text that links to pages, snippets and tags."""

from __future__ import annotations

from typing import Any

from django.db import models
from modelcluster.contrib.taggit import ClusterTaggableManager
from modelcluster.fields import ParentalKey
from taggit.models import TaggedItemBase
from wagtail.admin.panels import FieldPanel
from wagtail.contrib.settings.models import BaseSiteSetting, register_setting
from wagtail.fields import RichTextField
from wagtail.models import Page
from wagtail.snippets.models import register_snippet


@register_snippet
class Author(models.Model):
    name = models.CharField(max_length=50)


@register_setting
class Banner(BaseSiteSetting):
    text = models.CharField(max_length=50, default="")


class HomePage(Page):
    """Lists what is below it."""

    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(request, *args, **kwargs)
        context["banner"] = Banner.for_request(request).text
        context["menu"] = self.get_children().live().in_menu().specific()
        context["newest"] = (
            ArticlePage.objects.live().descendant_of(self).order_by("-pk").select_related("author")
        )
        return context


class ArticleTag(TaggedItemBase):
    content_object = ParentalKey(
        "ArticlePage", on_delete=models.CASCADE, related_name="tagged_items"
    )


class ArticlePage(Page):
    body = RichTextField(blank=True)
    author = models.ForeignKey(Author, null=True, blank=True, on_delete=models.SET_NULL)
    tags = ClusterTaggableManager(through=ArticleTag, blank=True)

    content_panels = [*Page.content_panels, FieldPanel("body"), FieldPanel("author")]

    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(request, *args, **kwargs)
        context["above"] = self.get_ancestors().filter(depth__gt=1).live()
        context["below"] = self.get_children().live()
        context["banner"] = Banner.for_request(request).text
        return context
