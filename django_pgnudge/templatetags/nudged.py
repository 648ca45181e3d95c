"""``{% nudged %}``: a fragment that is cached until something it shows changes.

::

    {% load nudged %}
    {% nudged 600 sidebar on "shop.Category" product by discount using="fast" %}
        …
    {% endnudged %}

After ``on`` come labels, tables, own nudges, objects (the row of each) and querysets (the tables
they read). Without ``on`` the fragment depends on what the request has read so far and on what it
reads itself: see `django_pgnudge.reader.transcript`. After ``by`` come values that distinguish
renderings. Objects, querysets and everything that the fragment reads from the request distinguish
renderings without ``by``: see `django_pgnudge.pages.recording`. A fragment with a token or a
message is not kept.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from django import template
from django.core.cache import caches
from django.db.models import Model
from django.template import TemplateSyntaxError
from django.template.loader_tags import BLOCK_CONTEXT_KEY, BlockNode
from django.utils.functional import Promise

from django_pgnudge.errors import UnknownTablesError, UnsureError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.memo import Memo
from django_pgnudge.pages.recording import MOST_INPUTS, note_values
from django_pgnudge.pages.responses import shown_in
from django_pgnudge.pages.template_inputs import asked_in, named_in, used_in
from django_pgnudge.reader.arguments import Attributes, digest, unwrapped
from django_pgnudge.reader.declared import check_dependencies
from django_pgnudge.reader.nested import note_unkept, reading_since, transcript_here
from django_pgnudge.reader.queryset_tables import is_queryset, tables_of
from django_pgnudge.reader.transcript import take_transcripts
from django_pgnudge.reader.value import WAIT, NudgedOptions, Value

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from django.template.base import FilterExpression, NodeList, Parser, Token
    from django.template.context import Context

    from django_pgnudge.pages.inputs import RequestInputs
    from django_pgnudge.reader.dependencies import DependsOn

logger = get_logger("django_pgnudge.nudged")

register = template.Library()


_MOST_LEARNED: Final = 10_000

_learned: Memo[str, frozenset[str]] = Memo(_MOST_LEARNED)
"""The inputs that each fragment has read from the request in this process."""


class _UnkeptError(Exception):
    """Carries a rendering past the cache, since an exception is not kept."""

    def __init__(self, rendering: str, why: str) -> None:
        self.rendering = rendering
        self.why = why


class NudgedNode(template.Node):
    """One fragment; ``source`` is its template source, from ``on`` to its end."""

    def __init__(
        self,
        nodelist: NodeList,
        timeout: FilterExpression,
        name: str,
        depends_on: list[FilterExpression],
        vary_on: list[FilterExpression],
        cache: FilterExpression | None,
        source: str,
    ) -> None:
        self.nodelist = nodelist
        self._timeout = timeout
        self._name = name
        self._depends_on = depends_on
        self._vary_on = vary_on
        self._cache = cache
        self._source = source
        self._is_observed = not depends_on
        if self._is_observed:
            take_transcripts()
        self._what = f"fragment {name!r}"
        self._named = named_in([*depends_on, *vary_on])
        self._wait = WAIT
        self._shows_blocks = bool(nodelist.get_nodes_by_type(BlockNode)) or "block.super" in source

    def render(self, context: Context) -> Any:
        options = NudgedOptions(
            self._seconds(context),
            self._alias(context),
            wait=self._wait,
            is_observed=self._is_observed,
        )
        asked = asked_in(context)
        named = self._named.inputs(context, asked)
        try:
            value = self._value(context, options, asked, named)
        except (UnknownTablesError, UnsureError) as reason:
            self._say(str(reason))
            note_unkept(self._what)
            return self.nodelist.render(context)

        def compute() -> str:
            if self._is_observed and transcript_here() is None:
                self._say_untold()
                raise _UnkeptError(str(self.nodelist.render(context)), "")
            if asked is None:
                return str(self.nodelist.render(context))
            with used_in(context, asked, named) as (reads, used):
                rendering = str(self.nodelist.render(context))
            if used:
                self._wait = 0.0  # waiting for another rendering that is not shared is useless
                raise _UnkeptError(
                    rendering,
                    f"it uses {', '.join(sorted(used))}, which is personal. Leave tokens and"
                    " messages out of it",
                )
            if reads.why_unsure:
                raise _UnkeptError(rendering, reads.why_unsure)
            if not self._inputs().issuperset(read := reads.values.keys() - named):
                learned = self._inputs() | read
                if len(learned) > MOST_INPUTS:
                    raise _UnkeptError(
                        rendering, f"it has read more than {MOST_INPUTS} parts of requests"
                    )
                _learned[self._source] = learned
                raise _UnkeptError(rendering, "")
            return rendering

        try:
            return value.get(compute)
        except _UnkeptError as found:
            note_unkept(self._what)
            if found.why:
                self._say(found.why)
            return found.rendering

    def _say_untold(self) -> None:
        if reading_since() is None:
            self._say(
                "it is rendered outside of a request, so nothing has noted what it shows. Read and"
                " render inside 'with nudged.reading():', or name what it depends on after 'on'"
            )
        elif may_log(f"untold {self._what}"):
            logger.info(
                "nudged: %s is rendered and not cached: what requests read is noted from the next"
                " one on.",
                self._what,
            )

    def _inputs(self) -> frozenset[str]:
        return _learned.get(self._source, frozenset())

    def _value(
        self,
        context: Context,
        options: NudgedOptions,
        asked: RequestInputs | None,
        named: frozenset[str],
    ) -> Value:
        depends_on: list[DependsOn] = []
        shown: list[Any] = []
        for written in self._depends_on:
            for entry in _entries(written.resolve(context), written):
                if is_queryset(entry):
                    reading = _reading(entry, written, options.database)
                    depends_on += reading.models
                    shown.append(reading.identity)
                else:
                    depends_on.append(entry)
                    shown += [entry] if isinstance(entry, Model) else []
        check_dependencies(tuple(depends_on), self._what, may_be_empty=self._is_observed)
        vary_on = [_said(each.resolve(context)) for each in self._vary_on]
        way = (context.autoescape, context.use_l10n, context.use_tz, *shown_in())
        read = {} if asked is None else note_values(asked, self._inputs() - named)
        around = _digest_of(
            self._name, self._source, self._blocks(context), tuple(sorted(read.items())), way
        )
        shows = Attributes({"by": vary_on, "on": shown})
        name = digest([around, shows], self._what, options.database)
        # What the fragment shows, the view has read before: see `token_age`.
        return Value(
            f"fragment {name}",
            depends_on,
            options,
            self._what,
            handed=True,
            since=reading_since(),
            shows_earlier=True,
        )

    def _blocks(self, context: Context) -> tuple[object, ...]:
        """The templates of the blocks that it shows: a child template may replace blocks."""
        if not self._shows_blocks:
            return ()
        blocks = getattr(context.render_context.get(BLOCK_CONTEXT_KEY), "blocks", {})
        found = tuple(
            (name, tuple(getattr(node.origin, "template_name", None) for node in nodes))
            for name, nodes in sorted(blocks.items())
        )
        if any(None in names for _, names in found):
            raise UnsureError(
                "it shows blocks, and a template that is not from a file may have defined them"
            )
        return found

    def _say(self, why: str) -> None:
        if may_log(f"rendered {self._what}"):
            logger.warning("nudged: %s is rendered and not cached: %s.", self._what, why)

    def _seconds(self, context: Context) -> int | None:
        seconds = self._timeout.resolve(context)
        try:
            return None if seconds is None else int(seconds)
        except (ValueError, TypeError):
            raise TemplateSyntaxError(
                f"{{% nudged %}} got a timeout that is not a number: {seconds!r}."
            ) from None

    def _alias(self, context: Context) -> str | None:
        if self._cache is None:
            return None
        alias = self._cache.resolve(context)
        if alias not in caches.settings:
            raise TemplateSyntaxError(f"{{% nudged %}} got an unknown cache: {alias!r}.")
        return str(alias)


@functools.lru_cache(_MOST_LEARNED)
def _digest_of(*texts: Hashable) -> str:
    """The digest of texts, flags and tuples of texts; cached, because they rarely change."""
    return digest(texts, "a fragment")


def _reading(queryset: Any, written: FilterExpression, using: str) -> Any:
    try:
        return tables_of(queryset, using)
    except UnknownTablesError as unknown:
        raise UnknownTablesError(
            f"it is unknown which tables {written.token} reads, since {unknown}. Name the tables"
            ' instead (on "shop.Product" "shop.Category")'
        ) from None


def _said(value: Any) -> Any:
    """The value; a lazy translation as its text, which distinguishes renderings."""
    return str(value) if isinstance(value, Promise) else value


def _entries(value: Any, written: FilterExpression) -> Iterator[Any]:
    if is_queryset(value):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _entries(each, written)
    elif not value:
        raise TemplateSyntaxError(
            f"{{% nudged %}} depends on {written.token}, which is {value!r}. Write labels in"
            " quotes."
        )
    else:
        yield unwrapped(value)


@register.tag("nudged")
def do_nudged(parser: Parser, token: Token) -> NudgedNode:
    """``{% nudged timeout name [on dependency …] [by value …] [using="cache"] %}``."""
    bits = token.split_contents()
    rest, cache = bits[3:], None
    if rest and rest[-1].startswith("using="):
        cache = rest.pop().removeprefix("using=")
    if len(bits) < 3 or (rest and rest[0] not in ("on", "by")):
        raise TemplateSyntaxError(
            '{% nudged %} is written {% nudged timeout name [on "shop.Product" …] [by value …]'
            ' [using="cache"] %}.'
        )
    split = rest.index("by") if "by" in rest else len(rest)
    for word, named in (("on", rest[:split]), ("by", rest[split:])):
        if named == [word]:
            raise TemplateSyntaxError(f"{{% nudged %}} names nothing after {word!r}.")
    before: list[Any] = list(parser.tokens)  # in reverse order: the next token is the last
    nodelist = parser.parse(("endnudged",))
    inside = [(each.token_type, each.contents) for each in before[len(parser.tokens) :]]
    # With the template's name, because a path in the fragment may be relative to it.
    source = repr((bits[3:], inside, getattr(parser.origin, "template_name", None)))
    parser.delete_first_token()
    return NudgedNode(
        nodelist,
        parser.compile_filter(bits[1]),
        bits[2].strip("\"'"),
        [parser.compile_filter(bit) for bit in rest[:split][1:]],
        [parser.compile_filter(bit) for bit in rest[split:][1:]],
        None if cache is None else parser.compile_filter(cache),
        source,
    )
