"""What an editor and others do to the site."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import Client
from django.urls import reverse
from wagtail.models import Page, PageViewRestriction, Site
from wagtail.test.utils.form_data import nested_form_data, rich_text

from tests.compat.pages import get
from tests.compat.wagtail_site.models import ArticlePage, Author, Banner, HomePage


def build() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    get_user_model().objects.create_superuser("editor", "e@example.org", "secret")
    root = Page.get_first_root_node()
    Page.objects.filter(depth=2).delete()
    root.refresh_from_db()
    home = root.add_child(instance=HomePage(title="Home", slug="home"))
    site = Site.objects.update_or_create(
        is_default_site=True, defaults={"hostname": "testserver", "port": 80, "root_page": home}
    )[0]
    Banner.objects.create(site=site, text="Welcome")
    ada = Author.objects.create(name="Ada")
    for section in ("News", "Guides"):
        parent = home.add_child(instance=_article(section, ada))
        for number in (1, 2):
            parent.add_child(instance=_article(f"{section} {number}", ada))
    page = _page("guides-1")
    page.body = f'<p>See <a linktype="page" id="{_page("news-1").pk}">this</a></p>'
    page.tags.add("red", "green")
    page.save()


def _article(title: str, author: Author) -> ArticlePage:
    return ArticlePage(
        title=title, slug=title.lower().replace(" ", "-"), author=author, show_in_menus=True
    )


def _page(slug: str) -> Any:
    """The first of that slug: a copied section has the same below it."""
    return ArticlePage.objects.filter(slug=slug).order_by("pk")[:1].get()


def paths() -> list[str]:
    """The address of every page that is public."""
    return [page.get_url() for page in Page.objects.live().filter(depth__gt=1).order_by("path")]


def address(slug: str) -> str:
    return str(_page(slug).get_url())


def _editor() -> Client:
    client = Client()
    assert client.login(username="editor", password="secret")
    return client


def _post(name: str, slug: str, data: dict[str, Any], *more: Any) -> None:
    url = reverse(f"wagtailadmin_pages:{name}", args=[_page(slug).pk, *more])
    response = _editor().post(url, data)
    assert response.status_code == 302, response.content.decode()[:3000]


def publish(slug: str, new_title: str) -> None:
    page = _page(slug)
    data = nested_form_data({
        "title": new_title, "slug": page.slug, "body": rich_text(page.body),
        "author": page.author_id, "seo_title": "", "search_description": "",
        "show_in_menus": "on", "go_live_at": "", "expire_at": "",
        "comments": {"TOTAL_FORMS": 0, "INITIAL_FORMS": 0, "MIN_NUM_FORMS": 0,
                     "MAX_NUM_FORMS": 1000},
        "action-publish": "Publish",
    })  # fmt: skip
    _post("edit", slug, data)


def save_draft(slug: str, new_title: str) -> None:
    page = _page(slug)
    page.title = new_title
    page.save_revision(user=get_user_model().objects.get())


def unpublish(slug: str) -> None:
    _post("unpublish", slug, {})


def republish(slug: str) -> None:
    _page(slug).get_latest_revision_as_object().save_revision().publish()


def move(slug: str, below: str) -> None:
    _post("move_confirm", slug, {}, _page(below).pk)


def copy(slug: str, new_slug: str) -> None:
    data = {
        "new_title": f"Copy of {slug}", "new_slug": new_slug,
        "new_parent_page": str(_page(slug).get_parent().pk), "copy_subpages": "on",
        "publish_copies": "on", "alias": "",
    }  # fmt: skip
    _post("copy", slug, data)


def delete(slug: str) -> None:
    _post("delete", slug, {})


def reorder(slug: str, position: int) -> None:
    url = reverse("wagtailadmin_pages:set_page_position", args=[_page(slug).pk])
    response = _editor().post(f"{url}?position={position}")
    assert response.status_code == 200


def restrict(slug: str) -> None:
    PageViewRestriction.objects.create(page=_page(slug), restriction_type="login")


def release(slug: str) -> None:
    PageViewRestriction.objects.filter(page=_page(slug)).delete()


def rename_author() -> None:
    Author.objects.update(name=models.functions.Upper("name"))


def retag(slug: str) -> None:
    page = _page(slug)
    page.tags.set(["blue"])
    page.save()


def banner(text: str) -> None:
    Banner.objects.update(text=text)


def change_and_fail(slug: str) -> None:
    """What is rolled back changes nothing, and what was read meanwhile is nobody's."""
    try:
        with transaction.atomic():
            ArticlePage.objects.filter(slug=slug).update(title="Never")
            get("/")
            raise ValueError
    except ValueError:
        pass


def alter_the_table() -> None:
    """A migration that changes the table of pages while the site serves them."""
    field = models.CharField(max_length=9, default="x")
    field.set_attributes_from_name("extra")
    with connection.schema_editor() as editor:
        editor.add_field(ArticlePage, field)
        editor.remove_field(ArticlePage, field)
