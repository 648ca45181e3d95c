"""caches/other_stores.py: memcached, files and backends of third parties."""

from __future__ import annotations

import fnmatch
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from servers.cache_sets import Memcached
from servers.process import free_port

from django_pgnudge import caches
from django_pgnudge.caches.other_stores import PatternStore
from django_pgnudge.errors import CacheError, UnsupportedError
from django_pgnudge.rules import Deletes
from tests.caches.filling import fill, left, ref
from tests.fix_servers import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import Settings


@pytest.fixture
def start_memcached() -> Iterator[Callable[[int], object]]:
    if Memcached.installed() is None:
        pytest.skip(missing("memcached"))
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(Memcached(port))


@pytest.fixture
def memcached(start_memcached: Callable[[int], None]) -> int:
    port = free_port()
    start_memcached(port)
    return port


def test_a_memcached_that_comes_back_is_used_at_once(
    start_memcached: Callable[[int], None], settings: Settings
) -> None:
    port = free_port()
    use_memcached(settings, port)
    with pytest.raises(CacheError, match=r"memcached 127.0.0.1"):
        caches.delete(ref(), Deletes(keys={"a"}))
    start_memcached(port)
    fill("a")
    assert caches.delete(ref(), Deletes(keys={"a"})) == 1


def use_memcached(settings: Settings, port: int, **options: Any) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": f"127.0.0.1:{port}",
            "OPTIONS": options,
        }
    }


def test_memcached_deletes_keys_and_refuses_the_rest_in_words(
    memcached: int, settings: Settings
) -> None:
    use_memcached(settings, memcached)
    fill("a", "b")
    awkward = {"no such\nkey", "x" * 300, "é" * 200, "\ud800"}
    assert caches.delete(ref(), Deletes(keys={"a", "absent"} | awkward)) == 1
    assert left("a", "b") == {"b"}
    with pytest.raises(UnsupportedError, match=r"memcached 127.0.0.1.*pattern"):
        caches.delete(ref(), Deletes(patterns={"b*"}))
    with pytest.raises(UnsupportedError, match="RESYNC"):
        caches.clear_version(ref())
    assert not caches.supports_patterns("default")
    assert not caches.can_enumerate("default")
    caches.clear("default")
    assert left("b") == set()


def test_a_dead_memcached_raises_each_time_though_the_site_ignores_failures(
    settings: Settings,
) -> None:
    use_memcached(settings, free_port(), ignore_exc=True, default_noreply=True)
    for _ in range(3):
        with pytest.raises(CacheError, match=r"memcached 127.0.0.1"):
            caches.delete(ref(), Deletes(keys={"a"}))
    with pytest.raises(CacheError, match=r"memcached 127.0.0.1"):
        caches.clear("default")


class ThirdPartyCache(LocMemCache):
    """Stands for a backend of its own kind that can delete by pattern."""

    def delete_pattern(self, pattern: str, version: int | None = None) -> int | None:
        head = self.make_key("", version=version)
        doomed = fnmatch.filter(self._cache, head + pattern)  # type: ignore[attr-defined]
        return sum(self._delete(key) for key in doomed) or None  # type: ignore[attr-defined]


def test_a_backend_of_a_third_party_is_used_by_what_it_offers() -> None:
    store = PatternStore("default", ThirdPartyCache("third party", {}))
    assert store.patterns
    for key in ("a:1", "a:2", "b"):
        store.cache.set(key, 1)
        store.cache.set(key, 1, version=2)
    assert store.delete_patterns({"a:*", "x*"}, None) == 2
    assert store.cache.get("a:1", version=2) == 1
    with pytest.raises(UnsupportedError, match="one version"):
        store.clear_version(2, "sessions")
    assert store.clear_version(2) == 3
    assert store.cache.get("b") == 1


def test_files_delete_keys_and_refuse_versions_in_words(tmp_path: Path, settings: Settings) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(tmp_path),
        }
    }
    fill("a", "b")
    assert caches.delete(ref(), Deletes(keys={"a"})) == 1
    assert left("a", "b") == {"b"}
    with pytest.raises(UnsupportedError, match="cannot list its keys"):
        caches.clear_version(ref())
    with pytest.raises(UnsupportedError, match="cannot delete by pattern"):
        caches.delete(ref(), Deletes(patterns={"b*"}))
