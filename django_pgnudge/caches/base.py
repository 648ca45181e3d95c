"""What a cache must be able to do to be invalidated, and the layout of its keys.

A ``Store`` wraps one Django cache of one thread. This base knows only Django's cache API; the
modules beside it go below that API where it hides failures or cannot enumerate keys.
"""

from __future__ import annotations

import copy
import functools
import re
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from django.conf import settings
from django.core.cache.backends.base import InvalidCacheKey, default_key_func
from django.utils.module_loading import import_string

from django_pgnudge.caches.values import Values
from django_pgnudge.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.core.cache.backends.base import BaseCache

    from django_pgnudge.caches.pipeline import Pipeline

__all__ = ["CHUNK", "Layout", "Store", "UnsupportedError", "chunked", "glob_regex"]

CHUNK: Final = 1000
"""Keys in one command: long enough to amortise the round trip, short enough not to stall others."""

_GLOB_TOKEN = re.compile(r"\\(.)|(\*+)|(\?)|(\[\^?)((?:[^\]\\]|\\.)+)\]|(.)", re.DOTALL)


class UnsupportedError(CacheError):
    """The backend cannot do this at all, so that trying again is of no use."""


class Layout(NamedTuple):
    """What the key function puts around a key of one version: ``head + key + tail``."""

    head: str
    tail: str

    def spares(self, sessions: str | None) -> str | None:
        """The beginning of the stored keys that belong to sessions, if any."""
        return None if sessions is None else self.head + sessions


class Store:
    """One cache alias, through Django's cache API only."""

    patterns = False
    enumerates = False

    def __init__(self, alias: str, cache: BaseCache, *, attached: bool = False) -> None:
        """``attached`` to the cache, which lives as long as it and must not be kept alive by it:
        a cycle would leave its connections to the garbage collector.
        """
        self.alias = alias
        self._cache: Callable[[], Any] = weakref.ref(cache) if attached else lambda: cache

    @property
    def cache(self) -> Any:
        """The cache."""
        return self._cache()

    @property
    def plain(self) -> Self:
        """The same store without the site's KEY_FUNCTION.

        One that puts the tenant at hand into each key would give every tenant a lease of its own.
        """
        return self if self.cache.key_func is default_key_func else self._plain

    @functools.cached_property
    def _plain(self) -> Self:
        cache = copy.copy(self.cache)
        cache.key_func = default_key_func
        for name in ("_pgnudge_store", "_pgnudge_values"):
            cache.__dict__.pop(name, None)
        if "_client" in cache.__dict__:
            # django-redis: its client asks the cache it was made for, and is made when needed.
            cache._client = None  # noqa: SLF001
        return type(self)(self.alias, cache)

    def make_values(self) -> Values:
        """The nudged values here."""
        return Values(self)

    @property
    def address(self) -> str:
        """Where the cache is, for people; never with a password."""
        return type(self.cache).__name__

    def delete_keys(self, keys: Iterable[str], version: int | None) -> int:
        """Delete; the number the backend tells, or else the number asked for."""
        count = 0
        for chunk in chunked(keys, CHUNK):
            count += self._delete_chunk(chunk, version)
        return count

    def _delete_chunk(self, keys: list[str], version: int | None) -> int:
        try:
            deleted = self.cache.delete_many(keys, version=version)
        except InvalidCacheKey:
            # A key the backend refuses was never stored; it must not keep its neighbours alive.
            keys = [key for key in keys if self._is_valid(key, version)]
            deleted = self.cache.delete_many(keys, version=version)
        return len(keys) if deleted is None else int(deleted)

    def _is_valid(self, key: str, version: int | None) -> bool:
        try:
            self.cache.make_and_validate_key(key, version=version)
        except InvalidCacheKey:
            return False
        return True

    def delete_patterns(self, patterns: Iterable[str], version: int | None) -> int:
        """Delete the keys of ``version`` that match any of the globs."""
        msg = (
            f"Cache {self.alias!r} ({self.address}) cannot delete by pattern, so "
            f"{', '.join(map(repr, sorted(patterns)))} was not deleted: use a Redis cache for "
            'these rules, name fixed keys, or set PGNUDGE["RESYNC"] = "clear".'
        )
        raise UnsupportedError(msg)

    def clear_version(self, version: int | None) -> int:
        """Delete all keys of ``version`` with this cache's prefix, but no sessions."""
        msg = (
            f"Cache {self.alias!r} ({self.address}) cannot list its keys, so one version of it "
            'cannot be cleared: use a Redis cache, or set PGNUDGE["RESYNC"] to "keys" or "clear".'
        )
        raise UnsupportedError(msg)

    def clear(self) -> None:
        """Delete everything, other people's data included."""
        self.cache.clear()

    def incarnation(self) -> str | None:
        """What changes when the server has restarted and may have reloaded deleted keys."""
        return None

    def pipeline(self) -> Pipeline | None:
        """A connection for rounds of deletes in one write each; None if there can be none."""
        return None

    def layout(self, version: int | None) -> Layout:
        """How this cache's key function wraps keys of ``version``, found by trying it.

        Raises UnsupportedError for a key function that hashes or otherwise rewrites keys: no
        prefix can be told from it.
        """
        make_key: Callable[..., str] = self.cache.make_key
        layouts: set[tuple[str, str]] = set()
        for probe in ("pgnudge", "q:2*[x]", "long-" * 80):
            head, found, tail = str(make_key(probe, version=version)).partition(probe)
            if not found:
                break
            layouts.add((head, tail))
        else:
            if len(layouts) == 1:
                return Layout(*layouts.pop())
        msg = (
            f'CACHES["{self.alias}"]["KEY_FUNCTION"] rewrites keys, so neither patterns nor whole '
            "versions can be deleted: use a key function that only adds a prefix, name fixed "
            'keys in the rules, or set PGNUDGE["RESYNC"] to "keys" or "clear".'
        )
        raise UnsupportedError(msg)

    def session_prefix(self) -> str | None:
        """How keys of sessions begin if they live here: a Resync must not log people out."""
        if self.alias != settings.SESSION_CACHE_ALIAS:
            return None
        try:
            session_store = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
        except ImportError:
            return None
        prefix = getattr(session_store, "cache_key_prefix", None)
        return str(prefix) if prefix else None


class EnumeratingStore(Store):
    """A cache whose stored keys can be listed here and deleted as they are stored."""

    patterns = True
    enumerates = True

    def stored_keys(self, head: str) -> Iterator[str]:
        raise NotImplementedError

    def delete_stored(self, keys: list[str]) -> int:
        raise NotImplementedError

    def delete_patterns(self, patterns: Iterable[str], version: int | None) -> int:
        layout = self.layout(version)
        head, tail = re.escape(layout.head), re.escape(layout.tail)
        globs = "|".join(glob_regex(pattern) for pattern in patterns)
        return self._delete_matching(re.compile(f"{head}(?:{globs}){tail}", re.DOTALL), layout)

    def clear_version(self, version: int | None) -> int:
        layout = self.layout(version)
        head, tail = re.escape(layout.head), re.escape(layout.tail)
        sessions = self.session_prefix()
        spared = f"(?!{re.escape(sessions)})" if sessions else ""
        return self._delete_matching(re.compile(f"{head}{spared}.*{tail}", re.DOTALL), layout)

    def _delete_matching(self, regex: re.Pattern[str], layout: Layout) -> int:
        count = 0
        doomed = [key for key in self.stored_keys(layout.head) if regex.fullmatch(key)]
        for chunk in chunked(doomed, CHUNK):
            count += self.delete_stored(chunk)
        return count


def chunked(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def glob_regex(pattern: str) -> str:
    """A Redis glob as a regular expression (the source, to be matched in full).

    Redis, util.c, stringmatchlen: ``*``, ``?``, ``[...]`` and a backslash that takes the next
    character literally.
    """
    parts = []
    for match in _GLOB_TOKEN.finditer(pattern):
        escaped, star, question, bracket, members, literal = match.groups()
        if star:
            parts.append(".*")
        elif question:
            parts.append(".")
        elif bracket:
            inside = re.sub(r"(?<!\\)([\[&~|^])", r"\\\1", members)
            parts.append(f"[{'^' if bracket == '[^' else ''}{inside}]")
        else:
            parts.append(re.escape(escaped or literal))
    return "".join(parts)
