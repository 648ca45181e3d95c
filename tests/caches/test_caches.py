"""caches/: keys are deleted on real backends, and those of others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge import caches
from django_pgnudge.errors import CacheError, UnsupportedError
from django_pgnudge.rules import Deletes
from tests.caches.filling import SESSION_KEY, fill, left, ref

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings


def test_fixed_keys_die_and_are_counted(enumerable: Any) -> None:
    fill("products", "product:1", "product:2")
    assert caches.delete(ref(), Deletes(keys={"products", "product:1", "absent"})) == 2
    assert left("products", "product:1", "product:2") == {"product:2"}


@pytest.mark.parametrize("prefix", ["pgnudge", "pgnudge-test-1", "x-pgnudge-y", "q:2*[x]"])
def test_a_prefix_may_be_any_text(enumerable: Any, prefix: str) -> None:
    enumerable(other={"KEY_PREFIX": prefix})
    fill("a", "b", alias="other")
    fill("a")
    assert caches.can_enumerate("other")
    assert caches.delete(ref(alias="other"), Deletes(patterns={"a*"})) == 1
    assert caches.clear_version(ref(alias="other")) == 1
    assert left("a") == {"a"}


def test_more_keys_than_a_chunk_die(enumerable: Any) -> None:
    keys = {f"k{n}" for n in range(2500)}
    django_caches["default"].set_many(dict.fromkeys(keys, 1))
    fill("stays")
    assert len(left(*keys)) > 100  # LocMem keeps 300 at most by default
    caches.delete(ref(), Deletes(keys=keys))
    assert left(*keys, "stays") <= {"stays"}
    fill("x1", "x2")
    assert caches.delete(ref(), Deletes(patterns={"x*"})) == 2


def test_a_pattern_deletes_what_it_matches_and_nothing_else(enumerable: Any) -> None:
    fill("product:1", "product:22", "Product:1", "products", "a:product:1")
    assert caches.delete(ref(), Deletes(patterns={"product:*"})) == 2
    assert left("product:1", "Product:1", "products", "a:product:1") == {
        "Product:1", "products", "a:product:1",
    }  # fmt: skip


def test_escaped_specials_of_a_pattern_match_only_themselves(enumerable: Any) -> None:
    fill("a[1]b?:1", "a1b?:1", "a[1]bx:1", "a\\:1")
    assert caches.delete(ref(), Deletes(patterns={"a[[]1]b[?]:*", "a\\\\:*"})) == 2
    assert left("a[1]b?:1", "a1b?:1", "a[1]bx:1", "a\\:1") == {"a1b?:1", "a[1]bx:1"}


def test_versions_do_not_touch_each_other(enumerable: Any) -> None:
    for version in (1, 2, 12):
        fill("key", "p:1", version=version)
    caches.delete(ref(2), Deletes(keys={"key"}, patterns={"p:*"}))
    assert left("key", "p:1", version=2) == set()
    assert left("key", "p:1", version=1) == {"key", "p:1"}
    caches.clear_version(ref(2))
    caches.clear_version(ref(None))
    assert left("key", "p:1", version=1) == set()
    assert left("key", "p:1", version=12) == {"key", "p:1"}


@pytest.mark.parametrize("prefix", ["site", "s*te", "s[i]te", "s%te", "s_te", "s!te", "s\\te"])
def test_a_prefix_is_taken_literally_and_others_survive(enumerable: Any, prefix: str) -> None:
    enumerable(
        mine={"KEY_PREFIX": prefix}, theirs={"KEY_PREFIX": "site2"}, s={"KEY_PREFIX": "site"}
    )
    fill("p:1", "p:2", alias="mine")
    fill("p:1", alias="theirs")
    fill("p:3")
    assert caches.delete(ref(alias="mine"), Deletes(patterns={"p:1*"})) == 1
    assert caches.clear_version(ref(alias="mine")) == 1
    assert left("p:1", alias="theirs") == {"p:1"}
    assert left("p:3") == {"p:3"}
    if prefix != "site":
        fill("p:1", alias="s")
        caches.clear_version(ref(alias="mine"))
        assert left("p:1", alias="s") == {"p:1"}


def test_sessions_in_the_same_version_survive(enumerable: Any, settings: Settings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.SESSION_CACHE_ALIAS = "default"
    fill("products", SESSION_KEY, "django.contrib.sessions")
    assert caches.clear_version(ref()) == 2
    assert left("products", SESSION_KEY) == {SESSION_KEY}
    settings.SESSION_CACHE_ALIAS = "other"
    assert caches.clear_version(ref()) == 1


def hashing_key(key: str, prefix: str, version: int) -> str:
    return f"{prefix}{version}{abs(hash(key))}"


def braces_key(key: str, prefix: str, version: int) -> str:
    return f"{{{prefix}}}:{version}:{key}:end"


def test_a_key_function_that_rewrites_keys_refuses_patterns_in_words(
    enumerable: Any,
) -> None:
    enumerable(hashed={"KEY_FUNCTION": f"{__name__}.hashing_key"})
    fill("products", alias="hashed")
    assert not caches.supports_patterns("hashed")
    assert not caches.can_enumerate("hashed")
    with pytest.raises(UnsupportedError, match="KEY_FUNCTION"):
        caches.delete(ref(alias="hashed"), Deletes(keys={"products"}, patterns={"p*"}))
    assert left("products", alias="hashed") == set()
    with pytest.raises(UnsupportedError, match="KEY_FUNCTION"):
        caches.clear_version(ref(alias="hashed"))


def test_a_key_function_that_wraps_keys_is_followed(enumerable: Any) -> None:
    enumerable(wrapped={"KEY_FUNCTION": f"{__name__}.braces_key", "KEY_PREFIX": "w"})
    fill("p:1", "q", alias="wrapped")
    fill("p:1")
    assert caches.supports_patterns("wrapped")
    assert caches.delete(ref(alias="wrapped"), Deletes(patterns={"p:*"})) == 1
    assert caches.clear_version(ref(alias="wrapped")) == 1
    assert left("p:1") == {"p:1"}


def test_clear_takes_everything(enumerable: Any) -> None:
    fill("a")
    fill("b", version=7)
    caches.clear("default")
    assert left("a") | left("b", version=7) == set()


def test_capabilities_are_told(enumerable: Any) -> None:
    assert caches.supports_patterns("default")
    assert caches.can_enumerate("default")


AWKWARD = ["with space", "ümläut-キー", "new\nline", "x" * 300, "tab\t", "nul\0", "a:b*c?[d]", "\\"]


@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
def test_awkward_keys_die_like_others(enumerable: Any, settings: Settings) -> None:
    if settings.CACHES["default"]["BACKEND"].endswith("DatabaseCache"):
        # PostgreSQL holds no NUL, and the table's keys are of 255 characters.
        keys = [key for key in AWKWARD if "\0" not in key and len(key) < 250]
    else:
        keys = AWKWARD
    fill(*keys, "stays")
    assert left(*keys) == set(keys)
    # Half a surrogate pair is no text: no server could have stored it.
    deletes = Deletes(keys={*AWKWARD, "\ud800"}, patterns={"\ud800*"})
    assert caches.delete(ref(), deletes) >= len(keys)
    assert left(*keys, "stays") == {"stays"}


def test_an_unknown_alias_is_a_cache_error() -> None:
    with pytest.raises(CacheError, match="'nowhere'"):
        caches.delete(ref(alias="nowhere"), Deletes(keys={"a"}))
