"""What a cache must be able to do to be invalidated.

A ``Store`` wraps one Django cache of one thread. This base knows only Django's cache API; the
modules beside it go below that API where it hides failures or cannot enumerate keys.
"""

from __future__ import annotations

import copy
import functools
import os
import re
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from django.conf import settings
from django.core.cache.backends.base import InvalidCacheKey, default_key_func
from django.core.cache.backends.filebased import FileBasedCache

from django_pgnudge.caches.layout import Layout, find_layout
from django_pgnudge.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from django.core.cache.backends.base import BaseCache


CHUNK: Final = 1000
"""Keys in one command: long enough to amortise the round trip, short enough not to stall others."""

_GLOB_TOKEN = re.compile(r"\\(.)|(\*+)|(\?)|(\[\^?)((?:[^\]\\]|\\.)+)\]|(.)", re.DOTALL)


class Store:
    """One cache alias, through Django's cache API only."""

    patterns = False
    enumerates = False
    spares = True
    """Whether `clear_version` can leave out keys by their beginning."""

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

    def clear_version(self, version: int | None, spared: str | None = None) -> int:
        """Delete all keys of ``version`` with this cache's prefix, but none whose stored key
        begins with ``spared``."""
        msg = (
            f"Cache {self.alias!r} ({self.address}) cannot list its keys, so one version of it "
            'cannot be cleared: use a Redis cache, or set PGNUDGE["RESYNC"] to "keys" or "clear".'
        )
        raise UnsupportedError(msg)

    def clear(self) -> None:
        """Delete everything, other people's data included."""
        self.cache.clear()

    def count_keys(self, keys: Iterable[str], version: int | None) -> int:
        """How many of these keys there are."""
        return sum(
            self._is_valid(key, version) and self.cache.has_key(key, version=version)
            for key in keys
        )

    def count_matching(self, glob: str, version: int | None, spared: str | None = None) -> int:
        """How many keys of ``version`` match, without those whose stored key begins with
        ``spared``; where keys can be listed."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Close connections that nobody else has."""

    def delete_beginning(self, head: str) -> None:
        """Delete every stored key that begins with ``head``, where keys can be listed."""

    def size(self) -> int | None:
        """How many keys `clear` would delete, None if it does not tell."""
        return None

    def incarnation(self) -> str | None:
        """What changes when the server has restarted and may have reloaded deleted keys."""
        return None

    def layout(self, version: int | None) -> Layout:
        """How this cache's key function wraps keys of ``version``; as `find_layout`."""
        return find_layout(self.alias, self.cache, version)

    def places(self) -> frozenset[Hashable]:
        """What `clear` empties, so that two caches that have a place in common share keys.

        Asks the server where there is one that can tell: one place has many names.
        """
        location = settings.CACHES.get(self.alias, {}).get("LOCATION")
        if isinstance(self.cache, FileBasedCache):
            return frozenset({("directory", os.path.realpath(str(location)))})
        return frozenset({(type(self.cache).__qualname__, str(location or f"of {self.alias}"))})


class EnumeratingStore(Store):
    """A cache whose stored keys can be listed here and deleted as they are stored."""

    patterns = True
    enumerates = True

    def stored_keys(self, head: str) -> Iterator[str]:
        raise NotImplementedError

    def delete_stored(self, keys: list[str]) -> int:
        raise NotImplementedError

    def count_matching(self, glob: str, version: int | None, spared: str | None = None) -> int:
        return sum(1 for _ in self._matching([glob], version, spared))

    def size(self) -> int | None:
        return sum(1 for _ in self.stored_keys(""))

    def delete_beginning(self, head: str) -> None:
        self._delete(self.stored_keys(head))

    def delete_patterns(self, patterns: Iterable[str], version: int | None) -> int:
        return self._delete(self._matching(patterns, version))

    def clear_version(self, version: int | None, spared: str | None = None) -> int:
        return self._delete(self._matching(["*"], version, spared))

    def _matching(
        self, globs: Iterable[str], version: int | None, spared: str | None = None
    ) -> Iterator[str]:
        """The stored keys of ``version`` that one of the globs matches, without those that begin
        with ``spared``."""
        layout = self.layout(version)
        head, tail = re.escape(layout.head), re.escape(layout.tail)
        without = f"(?!{re.escape(spared)})" if spared else ""
        any_of = "|".join(map(glob_regex, globs))
        regex = re.compile(f"{without}{head}(?:{any_of}){tail}", re.DOTALL)
        return (key for key in self.stored_keys(layout.head) if regex.fullmatch(key))

    def _delete(self, stored: Iterable[str]) -> int:
        # Listed to the end first: what is deleted meanwhile may be in the list's way.
        return sum(self.delete_stored(chunk) for chunk in chunked(list(stored), CHUNK))


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
