"""A view with a fragment without ``on``, as requests in this thread get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.signals import request_finished, request_started
from django.db import connection
from django.template import Context, Engine

from django_pgnudge.reader.state import reader_state
from tests.shop.models import Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})


def execute(sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else None


@contextmanager
def a_request() -> Iterator[None]:
    request_started.send(None)
    try:
        yield
    finally:
        request_finished.send(None)


def learned() -> set[str]:
    return set(reader_state("default").learned.of("fragment 'it'") or ())


class Site:
    """A view, and a fragment that shows what it returns; ``renderings`` counts."""

    def __init__(self, view: Callable[[], dict[str, Any]], inside: str = "", by: str = "") -> None:
        self.renderings = 0
        self._view = view
        self._template = ENGINE.from_string(
            "{% load nudged %}{% nudged 60 it " + by + " %}{{ text }}" + inside
            + "{{ count }}{% endnudged %}"
        )  # fmt: skip

    def get(self, **context: Any) -> str:
        with a_request():
            return self.render({**self._view(), **context})

    def render(self, context: dict[str, Any]) -> str:
        return str(self._template.render(Context({**context, "count": self._count})))

    def _count(self) -> str:
        self.renderings += 1
        return ""

    def is_kept(self) -> bool:
        """Whether it is served without being rendered, after requests that may learn."""
        for _ in range(4):
            self.get()
        before = self.renderings
        self.get()
        return self.renderings == before

    def is_ended_by(self, fake: NudgeFake, target: Any) -> bool:
        """Whether a change ends it; it is kept again afterwards."""
        before = self.renderings
        fake.changed(target)
        self.get()
        ended = self.renderings > before
        assert self.is_kept()
        return ended


def products() -> dict[str, Any]:
    return {"text": ",".join(Product.objects.order_by("name").values_list("name", flat=True))}
