"""Names for what a plain string cannot express: Django's own cache entries, and own nudges.

Django builds the keys of fragments, pages and sites: ``django/core/cache/utils.py`` for
``{% cache %}``, ``django/utils/cache.py`` for ``cache_page`` and the cache middleware. A settings
module may import this module, since it reads no settings at import. It reads them when the rules
are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FRAGMENTS: Final = "template_fragments"
"""The alias that ``{% cache %}`` uses if ``CACHES`` has it."""


class Own(str):
    """An own nudge, even if a table has the same name."""

    __slots__ = ()


def own(payload: str) -> Own:
    """The own nudge that ``emit(payload)`` sends, for a rule or a dependency.

    A lower-case word that resembles no table and no model needs no ``own()``.
    """
    if not isinstance(payload, str) or not payload or "." in payload:
        raise TypeError(f"own({payload!r}): pass what emit() sends, a string without a dot.")
    return Own(payload)


@dataclass(frozen=True, slots=True)
class DjangosKeys:
    """Keys that Django builds; ``written`` is their text in the rule.

    Either a fragment, by its ``name`` and what it varies on, or the pages of a key prefix. A prefix
    of None is the prefix of the cache middleware.
    """

    written: str
    name: str | None = None
    vary_on: tuple[str, ...] = ()
    prefix: str | None = None
    is_site: bool = False

    def __repr__(self) -> str:
        return self.written

    def alias(self) -> str:
        """The alias of CACHES that Django uses for them unless code names another."""
        from django.conf import settings  # noqa: PLC0415 - a settings module may import this

        if self.name is not None:
            return FRAGMENTS if FRAGMENTS in settings.CACHES else "default"
        return str(settings.CACHE_MIDDLEWARE_ALIAS) if self.is_site else "default"


def fragment(name: str, *vary_on: object) -> DjangosKeys:
    """The key of ``{% cache timeout name … %}`` with the same values after the name.

    A value may be a template such as ``"{pk}"``, filled in from each changed row. ``"*"`` means any
    values: it deletes all fragments of that name, and needs a cache that can delete by pattern. The
    name ``"*"`` means all fragments.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"fragment({name!r}): pass the name that follows {{% cache timeout.")
    written = f"fragment({', '.join(map(repr, (name, *vary_on)))})"
    return DjangosKeys(written, name, tuple(map(str, vary_on)))


def page(*, prefix: str = "") -> DjangosKeys:
    """All pages of ``cache_page(timeout, key_prefix=prefix)``.

    Their keys contain digests of URL and headers, so this needs a cache that can delete by pattern.
    The prefix ``"*"`` means any prefix.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"page(prefix={prefix!r}): pass the key_prefix of cache_page, a string.")
    return DjangosKeys(f"page(prefix={prefix!r})", prefix=prefix)


def site(*, prefix: str | None = None) -> DjangosKeys:
    """All pages of the cache middleware: ``UpdateCacheMiddleware`` and its subclasses.

    ``prefix`` is by default ``CACHE_MIDDLEWARE_KEY_PREFIX``, and ``"*"`` means any prefix. Needs a
    cache that can delete by pattern.
    """
    if not (prefix is None or isinstance(prefix, str)):
        raise TypeError(f"site(prefix={prefix!r}): pass CACHE_MIDDLEWARE_KEY_PREFIX, a string.")
    written = "site()" if prefix is None else f"site(prefix={prefix!r})"
    return DjangosKeys(written, prefix=prefix, is_site=True)
