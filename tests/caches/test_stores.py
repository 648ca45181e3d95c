"""caches: keys die on real backends, other people's keys do not, and failures are heard."""

from __future__ import annotations

import fnmatch
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import InvalidCacheKey
from django.core.cache import caches as django_caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers.cache_sets import Memcached
from servers.process import free_port

from django_pgnudge import caches
from django_pgnudge.caches.other_stores import PatternStore
from django_pgnudge.caches.store import Store, glob_regex
from django_pgnudge.errors import CacheError, UnsupportedError
from django_pgnudge.rules import CacheRef, Deletes
from tests.fix_servers import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

    from tests.fix_servers import Database

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
REDIS = [DJANGO_REDIS, DJANGO, DJANGO_VALKEY]
SESSION_KEY = "django.contrib.sessions.cacheabcdef"


@pytest.fixture(params=[*REDIS, "locmem", "database"])
def enumerable(request: pytest.FixtureRequest, settings: Settings) -> Callable[..., dict[str, Any]]:
    """Configures cache "default" of a backend that can list keys; returns a maker of options."""
    kind = request.param
    base: dict[str, Any]
    if kind in REDIS:
        redis: Redis = request.getfixturevalue("redis_server")
        base = {"BACKEND": kind, "LOCATION": redis.url}
    elif kind == "locmem":
        base = {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": request.node.name,
        }
    else:
        request.getfixturevalue("cache_table")
        base = {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "pgnudge_test_cache",
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }

    def configure(**others: dict[str, Any]) -> dict[str, Any]:
        settings.CACHES = {"default": base} | {
            alias: {**base, **extra} for alias, extra in others.items()
        }
        return base

    configure()
    return configure


@pytest.fixture
def cache_table(django_postgres: Database, settings: Settings) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "pgnudge_test_cache",
        }
    }
    call_command("createcachetable", verbosity=0)


def ref(version: int | None = None, alias: str = "default") -> CacheRef:
    return CacheRef(alias, version)


def fill(*keys: str, version: int | None = None, alias: str = "default") -> None:
    for key in keys:
        django_caches[alias].set(key, "value", None, version=version)


def left(*keys: str, version: int | None = None, alias: str = "default") -> set[str]:
    return set(django_caches[alias].get_many(keys, version=version))


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


@pytest.mark.parametrize("backend", REDIS)
@pytest.mark.parametrize("options", [{}, {"ignore": True}])
def test_a_dead_redis_raises_with_alias_and_address_and_no_password(
    backend: str, options: dict[str, Any], settings: Settings
) -> None:
    port = free_port()
    cache: dict[str, Any] = {"BACKEND": backend, "LOCATION": f"redis://:s3cret@127.0.0.1:{port}/3"}
    if options and backend != DJANGO:
        cache["OPTIONS"] = {"IGNORE_EXCEPTIONS": True}
        settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = settings.DJANGO_VALKEY_IGNORE_EXCEPTIONS = True
    settings.CACHES = {"default": cache}
    calls: list[Callable[[], Any]] = [
        lambda: caches.delete(ref(), Deletes(keys={"a"})),
        lambda: caches.delete(ref(), Deletes(patterns={"a*"})),
        lambda: caches.clear_version(ref()),
        lambda: caches.clear("default"),
        lambda: caches.incarnation("default"),
    ]
    cache.setdefault("OPTIONS", {})
    if backend == DJANGO:
        cache["OPTIONS"]["retry"] = Retry(NoBackoff(), 0)
    else:
        cache["OPTIONS"]["CONNECTION_POOL_KWARGS"] = {"retry": None}
    for call in calls:
        with pytest.raises(CacheError, match=rf"'default' \(redis 127.0.0.1:{port}/3\)") as caught:
            call()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("backend", REDIS)
def test_a_restarted_redis_is_another_incarnation(
    backend: str, redis_factory: Callable[..., Redis], settings: Settings
) -> None:
    redis = redis_factory()
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": redis.url}}
    first = caches.incarnation("default")
    assert first
    assert caches.incarnation("default") == first
    redis.restart()
    assert caches.incarnation("default") not in {first, None}


@pytest.mark.filterwarnings("ignore:.*on sharded client:UserWarning")
def test_shards_of_django_redis_are_all_cleared(
    redis_factory: Callable[..., Redis], settings: Settings
) -> None:
    servers = [redis_factory(), redis_factory()]
    settings.CACHES = {
        "default": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": [server.url for server in servers],
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
        }
    }
    keys = {f"p:{n}" for n in range(20)}
    fill(*keys, "q")
    assert all(server.command("DBSIZE") != ":0" for server in servers)
    assert caches.delete(ref(), Deletes(keys={"p:1", "p:2"})) == 2
    assert caches.delete(ref(), Deletes(patterns={"p:1*"})) == 10
    assert caches.clear_version(ref()) == 9
    assert left(*keys, "q") == set()


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


def test_a_redis_user_without_some_commands_is_served_as_far_as_it_goes(
    redis_server: Redis, settings: Settings
) -> None:
    address = redis_server.url.removeprefix("redis://")
    settings.CACHES = {
        "default": {"BACKEND": DJANGO, "LOCATION": f"redis://nudge:pw@{address}"},
    }
    try:
        everything_but = "-info", "-unlink"
        redis_server.command("ACL", "SETUSER", "nudge", "on", ">pw", "~*", "+@all", *everything_but)
        fill("a", "b", "c")
        assert caches.incarnation("default") is None
        assert caches.delete(ref(), Deletes(keys={"a"}, patterns={"b*"})) == 2
        redis_server.command("ACL", "SETUSER", "nudge", "-scan")
        with pytest.raises(UnsupportedError, match=r"allow its user SCAN") as caught:
            caches.clear_version(ref())
        assert "pw" not in str(caught.value)
        redis_server.command("ACL", "SETUSER", "nudge", "-del")
        with pytest.raises(CacheError, match=r"NoPermissionError"):
            caches.delete(ref(), Deletes(keys={"c"}))
    finally:
        redis_server.command("ACL", "DELUSER", "nudge")


@pytest.mark.parametrize("without", ["", "-@scripting", "-unlink", "-@scripting -unlink"])
def test_a_version_is_cleared_by_a_script_on_the_server_or_without(
    redis_server: Redis, settings: Settings, without: str
) -> None:
    address = redis_server.url.removeprefix("redis://")
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {"default": {"BACKEND": DJANGO, "LOCATION": f"redis://nudge:pw@{address}"}}
    rules = ["on", ">pw", "~*", "+@all", *without.split()]
    redis_server.command("ACL", "SETUSER", "nudge", *rules)
    store: Any = django_caches["default"]
    with Client.from_url(redis_server.url) as client:
        try:
            store.set_many({f"key:{number}": 1 for number in range(3000)})
            fill("other", version=2)
            fill(SESSION_KEY)
            client.config_resetstat()
            assert caches.clear_version(ref()) == 3000
            assert left(SESSION_KEY) == {SESSION_KEY}
            assert left("other", version=2) == {"other"}
            scripts = client.info("commandstats").get("cmdstat_eval", {})
            allowed = scripts.get("calls", 0) - scripts.get("rejected_calls", 0)
            assert (allowed > 1) == (without == "")
        finally:
            redis_server.command("ACL", "DELUSER", "nudge")


def test_a_redis_behind_a_unix_socket_is_named_by_its_path(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": DJANGO, "LOCATION": "unix:///run/none.sock?db=1"}}
    with pytest.raises(CacheError, match=r"unix:/run/none.sock"):
        caches.delete(ref(), Deletes(keys={"a"}))


class ThirdPartyCache(LocMemCache):
    """Stands for a backend of its own kind that can delete by pattern."""

    def delete_pattern(self, pattern: str, version: int | None = None) -> int | None:
        head = self.make_key("", version=version)
        cache: Any = self
        doomed = [key for key in cache._cache if fnmatch.fnmatch(key, head + pattern)]
        return sum(cache._delete(key) for key in doomed) or None


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


def test_an_unknown_alias_is_a_cache_error() -> None:
    with pytest.raises(CacheError, match="'nowhere'"):
        caches.delete(ref(alias="nowhere"), Deletes(keys={"a"}))


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
