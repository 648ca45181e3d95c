"""caches/sessions.py: a Resync logs nobody out, wherever and under whatever alias sessions live."""

from __future__ import annotations

import fnmatch
import hashlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.backends.cache import SessionStore as CacheSessions
from django.core.cache import caches as django_caches
from django.core.cache.backends.base import BaseCache
from servers.process import free_port

from django_pgnudge import caches
from django_pgnudge.checks import static
from django_pgnudge.errors import CacheError, UnsupportedError
from django_pgnudge.rules import CacheRef
from django_pgnudge.rules.registration import sandbox

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings
    from servers.redis import Redis

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"
LOCAL = "django.core.cache.backends.locmem.LocMemCache"
BACKENDS = [DJANGO_REDIS, DJANGO, "django_valkey.cache.ValkeyCache"]
ENGINE = "django.contrib.sessions.backends.cache"


class SessionStore(CacheSessions):
    """A project's own engine, with a cache and a name of its own."""

    cache_key_prefix = "visitor:"

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._cache = django_caches["visitors"]


class ForeignCache(BaseCache):
    """Stands for a third party's backend that can delete by pattern, and spare nothing."""

    kept: dict[str, Any] = {}

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self.kept.get(self.make_key(key, version), default)

    def set(self, key: str, value: Any, timeout: Any = None, version: int | None = None) -> None:
        self.kept[self.make_key(key, version)] = value

    def add(self, key: str, value: Any, timeout: Any = None, version: int | None = None) -> bool:
        self.set(key, value, version=version)
        return True

    def delete_pattern(self, pattern: str, version: int | None = None) -> int:
        doomed = fnmatch.filter(self.kept, self.make_key(pattern, version))
        return len([self.kept.pop(key) for key in doomed])


def bare_key(key: str, prefix: str, version: int) -> str:
    return key


def hashed_key(key: str, prefix: str, version: int) -> str:
    return hashlib.sha256(f"{prefix}:{version}:{key}".encode()).hexdigest()


def checked_key(key: str, prefix: str, version: int) -> str:
    return f"{hashed_key(key, prefix, version)[:8]}/{key}"


def ref(version: int | None = None) -> CacheRef:
    return CacheRef("default", version)


def somebody() -> Any:
    """A session that has been saved."""
    session = import_module(django_settings().SESSION_ENGINE).SessionStore()
    session["user"] = 7
    session.create()
    return session


def django_settings() -> Any:
    from django.conf import settings

    return settings


def is_logged_in(session: Any) -> bool:
    return bool(type(session)(session.session_key).load().get("user") == 7)


@pytest.fixture
def site(redis_server: Redis, settings: Settings) -> Any:
    """Configures ``default`` and ``sessions``, by default two aliases for one Redis database."""

    def configure(default: str = DJANGO_REDIS, backend: str = DJANGO, **options: Any) -> None:
        there = {"BACKEND": backend, "LOCATION": redis_server.url, **options}
        settings.CACHES = {
            "default": {"BACKEND": default, "LOCATION": redis_server.url},
            "sessions": there,
            "visitors": there,
        }
        settings.SESSION_ENGINE = ENGINE
        settings.SESSION_CACHE_ALIAS = "sessions"

    configure()
    return configure


@pytest.mark.parametrize("default", BACKENDS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", [None, 1, 2])
def test_sessions_under_an_alias_of_their_own_in_the_same_database_survive(
    site: Any, default: str, backend: str, version: int | None
) -> None:
    site(default, backend)
    session = somebody()
    django_caches["default"].set("products", 1, version=version)
    assert caches.clear_version(ref(version)) == 1
    assert is_logged_in(session)


@pytest.mark.parametrize(
    "options",
    [
        {"KEY_PREFIX": "s"},
        {"VERSION": 2},
        {"KEY_FUNCTION": f"{__name__}.bare_key"},
        {"KEY_PREFIX": "s", "VERSION": 3},
    ],
)
def test_sessions_survive_in_whatever_version_and_under_whatever_prefix(
    site: Any, options: dict[str, Any], settings: Settings
) -> None:
    site(**options)
    session = somebody()
    for version in (None, 1, 2, 3):
        caches.clear_version(ref(version))
    settings.CACHES = {
        **settings.CACHES,
        "default": {**settings.CACHES["default"], "KEY_FUNCTION": f"{__name__}.bare_key"},
    }
    django_caches["default"].set("products", 1)
    assert caches.clear_version(ref()) == 1, "a layout in which every key is of the version"
    assert is_logged_in(session)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1"])
def test_sessions_survive_whatever_the_server_is_called(
    site: Any, redis_server: Redis, host: str
) -> None:
    elsewhere = redis_server.url.replace("127.0.0.1", host)
    site(LOCATION=[elsewhere, elsewhere])
    session = somebody()
    caches.clear_version(ref())
    assert is_logged_in(session)


def test_sessions_of_an_engine_of_a_projects_own_survive(site: Any, settings: Settings) -> None:
    settings.SESSION_ENGINE = __name__
    settings.SESSION_CACHE_ALIAS = "default"
    session = somebody()
    django_caches["default"].set("products", 1)
    assert caches.clear_version(ref()) == 1
    assert is_logged_in(session)


@pytest.mark.django_db
def test_cached_sessions_whose_rows_are_in_the_database_survive(
    site: Any, settings: Settings
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    session = somebody()
    caches.clear_version(ref())
    assert django_caches["sessions"].get(session.cache_key) is not None


@pytest.mark.parametrize("engine", ["db", "file", "signed_cookies"])
def test_where_no_cache_holds_sessions_none_are_spared(
    site: Any, settings: Settings, engine: str
) -> None:
    session = somebody()
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert caches.clear_version(ref()) == 1
    assert not is_logged_in(session)


@pytest.mark.parametrize("name", ["hashed_key", "checked_key"])
def test_sessions_that_cannot_be_told_apart_are_not_cleared_and_why_is_said(
    site: Any, redis_server: Redis, settings: Settings, name: str
) -> None:
    site(KEY_FUNCTION=f"{__name__}.{name}")
    bare = {**settings.CACHES["default"], "KEY_FUNCTION": f"{__name__}.bare_key"}
    plain = settings.CACHES["default"]
    settings.CACHES = {**settings.CACHES, "default": bare}
    session = somebody()
    assert not caches.can_enumerate("default")
    with pytest.raises(UnsupportedError, match="sessions cannot be told from"):
        caches.clear_version(ref())
    assert is_logged_in(session)
    settings.CACHES = {**settings.CACHES, "default": plain}
    caches.clear_version(ref())
    assert is_logged_in(session), "no session's key begins as the keys of this version do"
    site(KEY_FUNCTION=f"{__name__}.{name}", LOCATION=redis_server.url.replace("/0", "/1"))
    settings.CACHES = {**settings.CACHES, "default": bare}
    django_caches["default"].set("products", 1)
    session = somebody()
    assert caches.clear_version(ref()) == 2, "in another database there are no sessions"
    assert is_logged_in(session)


def test_a_backend_that_can_spare_nothing_clears_only_versions_without_sessions(
    site: Any, settings: Settings
) -> None:
    foreign = {"BACKEND": f"{__name__}.ForeignCache", "LOCATION": "there"}
    settings.CACHES = {**settings.CACHES, "default": foreign, "sessions": foreign}
    session = somebody()
    assert not caches.can_enumerate("default")
    with pytest.raises(UnsupportedError, match="sessions cannot be told from"):
        caches.clear_version(ref())
    assert is_logged_in(session)
    django_caches["default"].set("products", 1, version=2)
    assert caches.clear_version(ref(2)) == 1
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert caches.can_enumerate("default")
    assert caches.clear_version(ref()) == 1


def test_an_engine_without_a_prefix_of_its_own_does_not_keep_everything_alive(
    site: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = __name__
    monkeypatch.setattr(SessionStore, "cache_key_prefix", "")
    django_caches["default"].set("products", 1)
    with pytest.raises(UnsupportedError, match="KEY_PREFIX"):
        caches.clear_version(ref())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("redis://127.0.0.1:{port}/0", "redis://localhost:{port}/0", True),
        ("redis://127.0.0.1:{port}/0", "redis://127.0.0.1:{port}", True),
        ("redis://127.0.0.1:{port}/0", ["redis://127.1:{port}/0"], True),
        ("redis://127.0.0.1:{port}/0", "redis://127.0.0.1:{port}/1", False),
    ],
)
@pytest.mark.parametrize("backends", [(DJANGO, DJANGO_REDIS), (DJANGO_REDIS, DJANGO)])
def test_the_servers_say_whether_two_aliases_lead_to_one_place(
    redis_server: Redis,
    settings: Settings,
    first: Any,
    second: Any,
    expected: bool,
    backends: tuple[str, str],
) -> None:
    def at(location: Any) -> Any:
        if isinstance(location, list):
            return [each.format(port=redis_server.port) for each in location]
        return location.format(port=redis_server.port)

    settings.CACHES = {
        "default": {"BACKEND": backends[0], "LOCATION": at(first)},
        "sessions": {"BACKEND": backends[1], "LOCATION": at(second)},
    }
    assert caches.same_place("default", "sessions") is expected
    assert caches.same_place("default", "default")


def test_two_servers_are_two_places(
    redis_server: Redis, redis_factory: Any, settings: Settings
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": DJANGO, "LOCATION": redis_server.url},
        "sessions": {"BACKEND": DJANGO, "LOCATION": redis_factory().url},
    }
    assert not caches.same_place("default", "sessions")


def test_caches_of_other_kinds_are_compared_by_what_they_open(
    settings: Settings, tmp_path: Any
) -> None:
    files = "django.core.cache.backends.filebased.FileBasedCache"
    table = "django.core.cache.backends.db.DatabaseCache"
    memcached = "django.core.cache.backends.memcached.PyMemcacheCache"
    (tmp_path / "link").symlink_to(tmp_path)
    settings.CACHES = {
        "default": {"BACKEND": LOCAL, "LOCATION": "a"},
        "memory": {"BACKEND": LOCAL, "LOCATION": "a", "KEY_PREFIX": "x"},
        "memory2": {"BACKEND": LOCAL, "LOCATION": "b"},
        "files": {"BACKEND": files, "LOCATION": str(tmp_path)},
        "files2": {"BACKEND": files, "LOCATION": str(tmp_path / "link")},
        "files3": {"BACKEND": files, "LOCATION": str(tmp_path / "c")},
        "table": {"BACKEND": table, "LOCATION": "t"},
        "table2": {"BACKEND": table, "LOCATION": "t", "VERSION": 2},
        "table3": {"BACKEND": table, "LOCATION": "u"},
        "memcached": {"BACKEND": memcached, "LOCATION": "127.0.0.1:1"},
        "memcached2": {"BACKEND": memcached, "LOCATION": ["localhost:1", "127.0.0.1:2"]},
        "memcached3": {"BACKEND": memcached, "LOCATION": "127.0.0.1:2"},
    }
    together = {
        frozenset({one, two})
        for one in settings.CACHES
        for two in settings.CACHES
        if one < two and caches.same_place(one, two)
    }
    assert together == {
        frozenset({"default", "memory"}),
        frozenset({"files", "files2"}),
        frozenset({"table", "table2"}),
        frozenset({"memcached", "memcached2"}),
        frozenset({"memcached2", "memcached3"}),
    }


def test_a_server_that_is_down_is_not_guessed_about(settings: Settings) -> None:
    settings.CACHES = {
        "default": {"BACKEND": DJANGO, "LOCATION": f"redis://127.0.0.1:{free_port()}"},
        "sessions": {"BACKEND": DJANGO, "LOCATION": f"redis://localhost:{free_port()}"},
    }
    with pytest.raises(CacheError, match="default"):
        caches.same_place("default", "sessions")


def test_the_check_asks_whether_clear_empties_the_place_of_sessions(
    site: Any, redis_server: Redis, settings: Settings
) -> None:
    def said() -> list[Any]:
        # That rules name the cache "default" at all is another check's.
        return [each for each in static.run() if each.id != "django_pgnudge.W008"]

    settings.PGNUDGE = {"INVALIDATE": {"shop.Product": "p"}, "RESYNC": "clear"}
    with sandbox():
        site(LOCATION=redis_server.url.replace("127.0.0.1", "localhost"))
        (found,) = said()
        assert found.id == "django_pgnudge.W001"
        assert "cache 'default', and the sessions of 'sessions' are in the same place" in found.msg
        assert "An alias of their own is not enough" in str(found.hint)
        site(LOCATION=redis_server.url.replace("/0", "/1"))
        assert said() == []
        settings.SESSION_ENGINE, settings.SESSION_CACHE_ALIAS = __name__, "default"
        assert said() == [], "the engine says which cache it uses"
