"""Keys of a cache, before and after a delete."""

from __future__ import annotations

from django.core.cache import caches as django_caches

from django_pgnudge.rules import CacheRef

SESSION_KEY = "django.contrib.sessions.cacheabcdef"


def ref(version: int | None = None, alias: str = "default") -> CacheRef:
    return CacheRef(alias, version)


def fill(*keys: str, version: int | None = None, alias: str = "default") -> None:
    for key in keys:
        django_caches[alias].set(key, "value", None, version=version)


def left(*keys: str, version: int | None = None, alias: str = "default") -> set[str]:
    return set(django_caches[alias].get_many(keys, version=version))
