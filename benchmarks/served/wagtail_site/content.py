"""The site's content, the same each time it is made, and who writes to it.

Kinds of items: `p` is a page's title, `a` a person's name, `f` the footer.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.files.images import ImageFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from PIL import Image as Picture
from wagtail.images.models import Image
from wagtail.models import Page, Site
from wagtail.signal_handlers import disable_reference_index_auto_update
from wagtail.test.utils.form_data import inline_formset, nested_form_data, rich_text

from benchmarks.served import marks
from benchmarks.served.wagtail_site.models import (
    ArticlePage,
    ArticlePerson,
    Footer,
    HomePage,
    Person,
    RelatedArticle,
    SectionPage,
)

PER_SECTION: Final = 50
PEOPLE: Final = 20
IMAGES: Final = 10
RENDITIONS: Final = ("fill-80x60", "width-200")
"""Those of the templates: else the first request for each would write."""
WORDS: Final = [
    "rye", "spelt", "malt", "oven", "crust", "yeast", "flour", "salt", "water", "dough", "barley",
    "oat", "seed", "honey", "loaf", "rise", "bake",
]  # fmt: skip

RAW: Final = {
    "p": "UPDATE wagtailcore_page SET title = %s WHERE id = %s",
    "a": "UPDATE demo_person SET name = %s WHERE id = %s",
    "f": "UPDATE demo_footer SET text = %s WHERE id = %s",
}
"""By kind: what is written past Django."""


def value(kind: str, number: int, version: int) -> str:
    """An item's text."""
    rng = random.Random(number)
    return f"{' '.join(rng.sample(WORDS, 2)).capitalize()} {marks.text(kind, number, version)}"


def build(pages: int) -> None:
    """The tables, and ``pages`` pages."""
    call_command("migrate", verbosity=0, interactive=False)
    get_user_model().objects.create_superuser("editor", "e@example.org", "secret")
    with disable_reference_index_auto_update():
        _fill(pages)
    # Titles name their page, whose number is known once it is saved.
    for page in Page.objects.filter(depth__gt=1):
        Page.objects.filter(pk=page.pk).update(title=value("p", page.pk, 0))
    for person in Person.objects.all():
        Person.objects.filter(pk=person.pk).update(name=value("a", person.pk, 0))


def _fill(pages: int) -> None:
    rng = random.Random(pages)
    root = Page.get_first_root_node()
    Page.objects.filter(depth=2).delete()
    root.refresh_from_db()
    home = root.add_child(instance=HomePage(title="Home", slug="home"))
    Site.objects.all().delete()
    Site.objects.create(hostname="localhost", is_default_site=True, root_page=home)
    Footer.objects.create(pk=1, text=value("f", 1, 0))
    people = [Person.objects.create(name=str(each)) for each in range(PEOPLE)]
    images = [_image(each) for each in range(IMAGES)]
    made: list[Any] = []
    section: Any = None
    for number in range(1, pages):
        if (number - 1) % PER_SECTION == 0:
            title = f"Section {number}"
            section = home.add_child(
                instance=SectionPage(title=title, slug=f"s{number}", show_in_menus=number < 500)
            )
            continue
        page = section.add_child(instance=_article(number, rng, images))
        page.tags.add(*rng.sample(WORDS, 3))
        page.save()
        ArticlePerson.objects.create(article=page, person=rng.choice(people))
        for other in rng.sample(made, min(2, len(made))):
            RelatedArticle.objects.create(article=page, other_id=other)
        made.append(page.pk)


def _article(number: int, rng: random.Random, images: list[Any]) -> ArticlePage:
    body = "".join(f"<p>{' '.join(rng.choices(WORDS, k=60))}</p>" for _ in range(4))
    return ArticlePage(
        title=f"Article {number}", slug=f"a{number}", intro=" ".join(rng.choices(WORDS, k=12)),
        body=body, image=rng.choice(images),
    )  # fmt: skip


def _image(number: int) -> Any:
    kept = io.BytesIO()
    Picture.new("RGB", (320, 240), (number * 20, 120, 90)).save(kept, "JPEG")
    made = Image.objects.create(title=f"Image {number}", file=ImageFile(kept, f"{number}.jpg"))
    made.get_renditions(*RENDITIONS)
    return made


def paths() -> list[str]:
    """Every page's address."""
    found = Page.objects.live().filter(depth__gt=1).order_by("path").specific(defer=True)
    return [str(page.get_url()) for page in found]


def items() -> Mapping[str, list[int]]:
    """The numbers of each kind that may be written."""
    return {
        "p": list(Page.objects.filter(depth__gt=1).order_by("pk").values_list("pk", flat=True)),
        "a": list(Person.objects.order_by("pk").values_list("pk", flat=True)),
        "f": [1],
    }


class Through:
    """An editor: pages through Wagtail's admin, snippets through the ORM."""

    def __init__(self) -> None:
        self._client = Client(headers={"host": "localhost"})
        assert self._client.login(username="editor", password="secret")

    def write(self, kind: str, number: int, value: str) -> None:
        if kind != "p":
            self._save(Person if kind == "a" else Footer, number, value)
            return
        page: Any = Page.objects.get(pk=number).specific
        data = nested_form_data({
            "title": value, "slug": page.slug, "seo_title": "", "search_description": "",
            "go_live_at": "", "expire_at": "", "action-publish": "Publish",
            "comments": inline_formset([]),
            **({"show_in_menus": "on"} if page.show_in_menus else {}),
            **(_article_form(page) if isinstance(page, ArticlePage) else {}),
        })  # fmt: skip
        response = self._client.post(reverse("wagtailadmin_pages:edit", args=[number]), data)
        if response.status_code != 302:
            raise RuntimeError(response.content.decode()[:3000])

    @staticmethod
    def _save(model: Any, number: int, value: str) -> None:
        found = model.objects.get(pk=number)
        setattr(found, "name" if model is Person else "text", value)
        found.save()


def _article_form(page: ArticlePage) -> dict[str, Any]:
    people = [{"id": each.pk, "person": each.person_id} for each in page.people.all()]
    related = [{"id": each.pk, "other": each.other_id} for each in page.related.all()]
    return {
        "intro": page.intro,
        "body": rich_text(page.body),
        "image": page.image_id,
        "tags": ", ".join(page.tags.names()),
        "people": inline_formset(people, initial=len(people)),
        "related": inline_formset(related, initial=len(related)),
    }
