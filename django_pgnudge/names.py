"""How users name what a plain string cannot say: what Django caches by itself, and own nudges.

The keys of fragments, pages and sites are Django's: ``django/core/cache/utils.py`` for
``{% cache %}``, ``django/utils/cache.py`` for ``cache_page`` and the cache middleware. Importing
this needs no settings, so that a settings module may; what depends on settings is looked up when
the rules are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FRAGMENTS: Final = "template_fragments"
"""The alias that ``{% cache %}`` prefers where it is there."""


class Own(str):
    """An own nudge, whatever tables there are."""

    __slots__ = ()


def own(payload: str) -> Own:
    """The own nudge that ``emit(payload)`` sends, in a rule or among dependencies.

    Lower-case words that are near no table and no model need no such word.
    """
    if not isinstance(payload, str) or not payload or "." in payload:
        raise TypeError(f"own({payload!r}): it is what emit() sends, a string without a dot.")
    return Own(payload)


@dataclass(frozen=True, slots=True)
class DjangosKeys:
    """Keys that Django makes; ``written`` is how the rule says it.

    Either a fragment by its ``name`` and what it varies on, or the pages of a key prefix, which is
    that of the cache middleware if it is None.
    """

    written: str
    name: str | None = None
    vary_on: tuple[str, ...] = ()
    prefix: str | None = None
    is_site: bool = False

    def __repr__(self) -> str:
        return self.written

    def alias(self) -> str:
        """The alias of CACHES in which Django keeps them, unless code names another."""
        from django.conf import settings  # noqa: PLC0415 - a settings module may import this

        if self.name is not None:
            return FRAGMENTS if FRAGMENTS in settings.CACHES else "default"
        return str(settings.CACHE_MIDDLEWARE_ALIAS) if self.is_site else "default"


def fragment(name: str, *vary_on: object) -> DjangosKeys:
    """The key of ``{% cache timeout name … %}``, for the same values after the name.

    A value may be a template such as ``"{pk}"``, filled in from each changed row. A ``"*"`` stands
    for any values: then all fragments of that name go, which takes a cache that can delete by
    pattern.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"fragment({name!r}): the first is the name after {{% cache timeout.")
    written = f"fragment({', '.join(map(repr, (name, *vary_on)))})"
    return DjangosKeys(written, name, tuple(map(str, vary_on)))


def page(*, prefix: str = "") -> DjangosKeys:
    """All pages of ``cache_page(timeout, key_prefix=prefix)``.

    Their keys are made of digests of URL and headers, so it takes a cache that can delete by
    pattern.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"page(prefix={prefix!r}): it is the key_prefix of cache_page, a string.")
    return DjangosKeys(f"page(prefix={prefix!r})", prefix=prefix)


def site(*, prefix: str | None = None) -> DjangosKeys:
    """All pages of the cache middleware: ``UpdateCacheMiddleware`` and its relatives.

    ``prefix`` is by default ``CACHE_MIDDLEWARE_KEY_PREFIX``. Takes a cache that can delete by
    pattern.
    """
    if not (prefix is None or isinstance(prefix, str)):
        raise TypeError(f"site(prefix={prefix!r}): it is CACHE_MIDDLEWARE_KEY_PREFIX, a string.")
    written = "site()" if prefix is None else f"site(prefix={prefix!r})"
    return DjangosKeys(written, prefix=prefix, is_site=True)
