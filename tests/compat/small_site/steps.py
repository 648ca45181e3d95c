"""What happens in a library."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tests.compat.small_site.models import Book, Shelf


def build() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    user = get_user_model().objects.create_superuser("staff", "s@example.org", "secret")
    for name in ("Fiction", "Fact"):
        root = Shelf.objects.create(name=name)
        for number in (1, 2):
            below = Shelf.objects.create(name=f"{name} {number}", parent=root)
            book = Book.objects.create(title=f"On {name} {number}", shelf=below)
            book.readers.add(user)


def paths() -> list[str]:
    books = list(Book.objects.order_by("pk").values_list("pk", flat=True))
    return ["/tree/", "/api/books/", "/whole/", *(f"/api/books/{pk}/" for pk in books),
            *(f"/history/{pk}/" for pk in books)]  # fmt: skip


def _shelf(name: str) -> Any:
    return Shelf.objects.get(name=name)


def _staff() -> Client:
    client = Client()
    assert client.login(username="staff", password="secret")
    return client


def _first() -> Any:
    return Book.objects.order_by("pk")[0]


def move(name: str, below: str, position: str) -> None:
    _shelf(name).move_to(_shelf(below), position)


def drag(name: str, below: str) -> None:
    """As the admin does it when a row is dropped on another."""
    response = _staff().post(
        reverse("admin:small_site_shelf_changelist"),
        {"cmd": "move_node", "position": "last-child", "cut_item": _shelf(name).pk,
         "pasted_on": _shelf(below).pk},
        headers={"x-requested-with": "XMLHttpRequest"},
    )  # fmt: skip
    assert response.content.decode().startswith("OK"), response.content.decode()


def rebuild() -> None:
    Shelf.objects.rebuild()


def delete_shelf(name: str) -> None:
    _shelf(name).delete()


def edit(title: str) -> None:
    book = _first()
    data = {"title": title, "shelf": book.shelf_id, "readers": []}
    response = _staff().post(reverse("admin:small_site_book_change", args=[book.pk]), data)
    assert response.status_code == 302, response.content.decode()[:2000]


def revert() -> None:
    """To what it was before the last change, as simple_history's admin does it."""
    was = _first().history.order_by("-history_id")[1]
    was.instance.save()


def post_by_api(title: str) -> None:
    data = {"title": title, "shelf": _first().shelf_id, "readers": []}
    response = _staff().post(
        reverse("book-list"), json.dumps(data), content_type="application/json"
    )
    assert response.status_code == 201, response.content


def patch_by_api(title: str) -> None:
    response = _staff().patch(
        reverse("book-detail", args=[_first().pk]), json.dumps({"title": title}),
        content_type="application/json",
    )  # fmt: skip
    assert response.status_code == 200, response.content


def bulk_create() -> None:
    shelf = _first().shelf
    Book.objects.bulk_create([Book(title=f"Bulk {number}", shelf=shelf) for number in range(3)])


def read_by_nobody() -> None:
    _first().readers.clear()


def rendered(accept: str) -> list[str]:
    """The list in a format, twice: what is kept of one must not be served for another."""
    client = Client()
    found = [client.get("/api/books/", headers={"accept": accept}) for _ in range(2)]
    # The page for people has a form, and with it a token of its own each time.
    assert found[0].headers["Content-Type"] == found[1].headers["Content-Type"]
    return [found[0].headers["Content-Type"].partition(";")[0], found[0].content.decode()[:1]]


def fill() -> None:
    cache.set_many({"tree": 1, "history": 1, "readers": 1})


def left() -> list[str]:
    return sorted(cache.get_many(["tree", "history", "readers"]))
