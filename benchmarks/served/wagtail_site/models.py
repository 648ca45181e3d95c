# ruff: noqa: DJ008 - pages have one of their own
"""Sections with articles in them; an article has people, tags, an image and related articles."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db import models
from modelcluster.contrib.taggit import ClusterTaggableManager
from modelcluster.fields import ParentalKey
from taggit.models import TaggedItemBase
from wagtail.admin.panels import FieldPanel, InlinePanel
from wagtail.fields import RichTextField
from wagtail.models import Orderable, Page, Site
from wagtail.snippets.models import register_snippet


@register_snippet
class Person(models.Model):
    name = models.CharField(max_length=80)


@register_snippet
class Footer(models.Model):
    text = models.CharField(max_length=80)


class DemoPage(Page):
    """What the base template shows."""

    class Meta:
        abstract = True

    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(request, *args, **kwargs)
        site = Site.find_for_request(request)
        context["menu"] = site.root_page.get_children().live().in_menu()
        context["above"] = self.get_ancestors().filter(depth__gt=1).live()
        context["footer"] = Footer.objects.first()
        return context


class HomePage(DemoPage):
    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context(request, *args, **kwargs)
        articles = ArticlePage.objects.live().descendant_of(self)
        context["articles"] = articles.select_related("image").order_by("pk")[:6]
        return context


class SectionPage(DemoPage):
    intro = models.CharField(max_length=200, blank=True)

    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context(request, *args, **kwargs)
        below = ArticlePage.objects.live().child_of(self).select_related("image").order_by("path")
        context["articles"] = Paginator(below, 12).get_page(request.GET.get("page"))
        return context


class ArticleTag(TaggedItemBase):
    content_object = ParentalKey(
        "ArticlePage", on_delete=models.CASCADE, related_name="tagged_items"
    )


class ArticlePage(DemoPage):
    intro = models.CharField(max_length=200, blank=True)
    body = RichTextField(blank=True)
    image = models.ForeignKey(
        "wagtailimages.Image", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    tags = ClusterTaggableManager(through=ArticleTag, blank=True)

    content_panels = [
        *Page.content_panels,
        FieldPanel("intro"),
        FieldPanel("body"),
        FieldPanel("image"),
        FieldPanel("tags"),
        InlinePanel("people"),
        InlinePanel("related"),
    ]

    def get_context(self, request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context(request, *args, **kwargs)
        context["people"] = self.people.select_related("person")
        context["related"] = self.related.select_related("other")
        return context


class ArticlePerson(Orderable):
    article = ParentalKey(ArticlePage, on_delete=models.CASCADE, related_name="people")
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")

    panels = [FieldPanel("person")]


class RelatedArticle(Orderable):
    article = ParentalKey(ArticlePage, on_delete=models.CASCADE, related_name="related")
    other = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="+")

    panels = [FieldPanel("other")]
