"""``{% nudged %}``: a fragment that is cached as long as what it shows does not change.

::

    {% load nudged %}
    {% nudged 600 sidebar on "shop.Category" product by LANGUAGE_CODE using="fast" %}
        …
    {% endnudged %}

After ``on`` stand labels, tables, own nudges and objects (the row of each); after ``by`` what tells
one rendering from another. Objects tell them apart by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.core.cache import caches
from django.core.cache.utils import make_template_fragment_key
from django.db.models import Model, QuerySet
from django.template import TemplateSyntaxError

from django_pgnudge.fresh.arguments import digest
from django_pgnudge.fresh.decorator import check_dependencies
from django_pgnudge.fresh.sightings import reading_since
from django_pgnudge.fresh.values import Options, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.template.base import FilterExpression, NodeList, Parser, Token
    from django.template.context import Context

    from django_pgnudge.fresh.dependencies import DependsOn

register = template.Library()


class NudgedNode(template.Node):
    """One fragment."""

    def __init__(
        self,
        nodelist: NodeList,
        timeout: FilterExpression,
        name: str,
        depends_on: list[FilterExpression],
        vary_on: list[FilterExpression],
        cache: FilterExpression | None,
    ) -> None:
        self.nodelist = nodelist
        self._timeout = timeout
        self._name = name
        self._depends_on = depends_on
        self._vary_on = vary_on
        self._cache = cache

    def render(self, context: Context) -> Any:
        depends_on = tuple(
            entry for each in self._depends_on for entry in _entries(each.resolve(context), each)
        )
        what = f"fragment {self._name!r}"
        check_dependencies(depends_on, what)
        vary_on = [each.resolve(context) for each in self._vary_on]
        rows = [entry for entry in depends_on if isinstance(entry, Model)]
        name = make_template_fragment_key(self._name, [*vary_on, digest(rows, what)])
        # What the fragment shows, the view has read before: see `sightings`.
        value = Value(
            f"fragment {name}",
            depends_on,
            Options(self._seconds(context), self._alias(context)),
            what,
            handed=True,
            since=reading_since(),
        )
        return value.get(lambda: self.nodelist.render(context))

    def _seconds(self, context: Context) -> int | None:
        seconds = self._timeout.resolve(context)
        try:
            return None if seconds is None else int(seconds)
        except (ValueError, TypeError):
            raise TemplateSyntaxError(
                f"{{% nudged %}} got a timeout that is no number: {seconds!r}."
            ) from None

    def _alias(self, context: Context) -> str | None:
        if self._cache is None:
            return None
        alias = self._cache.resolve(context)
        if alias not in caches.settings:
            raise TemplateSyntaxError(f"{{% nudged %}} got a cache that is not there: {alias!r}.")
        return str(alias)


def _entries(value: Any, written: FilterExpression) -> Iterator[DependsOn]:
    if isinstance(value, QuerySet):
        yield value.model
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _entries(each, written)
    elif not value:
        raise TemplateSyntaxError(
            f"{{% nudged %}} depends on {written.token}, which is {value!r}. Labels are written in"
            " quotes."
        )
    else:
        yield value


@register.tag("nudged")
def do_nudged(parser: Parser, token: Token) -> NudgedNode:
    """``{% nudged timeout name on dependency … [by value …] [using="cache"] %}``."""
    bits = token.split_contents()
    if len(bits) < 5 or bits[3] != "on":
        raise TemplateSyntaxError(
            '{% nudged %} is written {% nudged timeout name on "shop.Product" … [by value …]'
            ' [using="cache"] %}.'
        )
    nodelist = parser.parse(("endnudged",))
    parser.delete_first_token()
    rest, cache = bits[4:], None
    if rest[-1].startswith("using="):
        cache = parser.compile_filter(rest.pop().removeprefix("using="))
    split = rest.index("by") if "by" in rest else len(rest)
    depends_on, vary_on = rest[:split], rest[split + 1 :]
    if not depends_on:
        raise TemplateSyntaxError("{% nudged %} names nothing after 'on'.")
    return NudgedNode(
        nodelist,
        parser.compile_filter(bits[1]),
        bits[2].strip("\"'"),
        [parser.compile_filter(bit) for bit in depends_on],
        [parser.compile_filter(bit) for bit in vary_on],
        cache,
    )
