"""caches/store.py: what is the same for every store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.core.cache import InvalidCacheKey
from django.core.cache.backends.locmem import LocMemCache

from django_pgnudge.caches.store import Store, glob_regex

if TYPE_CHECKING:
    from servers.redis import Redis


class PickyCache(LocMemCache):
    """Stands for a backend that refuses keys, as memcached's do."""

    def validate_key(self, key: str) -> None:
        if " " in key:
            raise InvalidCacheKey(key)


def test_a_key_the_backend_refuses_does_not_keep_its_neighbours_alive() -> None:
    store = Store("default", PickyCache("picky", {}))
    store.cache.set("a", 1)
    assert store.delete_keys(["no good", "a"], None) == 1
    assert store.cache.get("a") is None


@pytest.mark.parametrize(
    ("glob", "matches", "misses"),
    [
        ("a*", ["a", "ab\n"], ["ba"]),
        ("a?c", ["abc"], ["ac"]),
        ("[*]", ["*"], ["x"]),
        ("\\*", ["*"], ["\\*", "x"]),
        ("[^a]", ["b"], ["a"]),
        ("[a-c]", ["b"], ["d", "-"]),
        ("a[", ["a["], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("[[]", ["["], ["]"]),
    ],
)
def test_globs_mean_what_they_mean_to_redis(
    glob: str, matches: list[str], misses: list[str], redis_server: Redis
) -> None:
    regex = re.compile(glob_regex(glob), re.DOTALL)
    assert all(regex.fullmatch(text) for text in matches)
    assert not any(regex.fullmatch(text) for text in misses)
