"""asking: a question to a Redis that is packed once says what get_many would say."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django_redis.client import DefaultClient  # type: ignore[import-untyped]
from redis import Redis as Client
from redis.exceptions import TimeoutError as RedisTimeoutError

from django_pgnudge.caches.asking import Question, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"

KEYS = ("lease", "value", "tökén")


class ForeignClient(Client):
    """Stands for a client class of the site's own."""


class Herd(DefaultClient):  # type: ignore[misc]
    """Stands for a django-redis client that reads in its own way."""

    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_many(*args, **kwargs)


class Watched(RedisCache):
    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_many(*args, **kwargs)


@pytest.fixture(params=[DJANGO_REDIS, DJANGO])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def configure(redis_server: Redis, settings: Settings) -> Iterator[Callable[..., Any]]:
    """Configures cache "default", fills it and returns it."""

    def use(backend: str, **more: Any) -> Any:
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": redis_server.url, **more}}
        cache: Any = caches["default"]
        cache.set_many({"lease": ("grant", "digest"), "value": [1, 2], "tökén": "abc"})
        return cache

    yield use
    caches["default"].close()


def question(*keys: str) -> Question:
    return Question(keys or KEYS, single="value")


def test_it_says_what_get_many_says(backend: str, configure: Any) -> None:
    cache = configure(backend)
    asked = question("absent", *KEYS)
    for _ in range(2):
        assert ask(cache, asked) == cache.get_many(asked)
    cache.set("tökén", "def")
    cache.delete("lease")
    assert ask(cache, asked) == {"value": [1, 2], "tökén": "def"}


def test_the_value_itself_is_each_callers_own(backend: str, configure: Any) -> None:
    cache = configure(backend)
    found = ask(cache, question())
    assert found is not None
    found["value"].append(3)
    assert ask(cache, question()) == {"lease": ("grant", "digest"), "value": [1, 2], "tökén": "abc"}


def make_key(key: str, prefix: str, version: int) -> str:
    return f"<{prefix}|{version}|{key}>"


def test_one_question_serves_caches_of_other_prefixes_versions_and_key_functions(
    backend: str, configure: Any
) -> None:
    asked = question()
    for more in (
        {},
        {"KEY_PREFIX": "a"},
        {"KEY_PREFIX": "ä", "VERSION": 2},
        {"KEY_FUNCTION": f"{__name__}.make_key"},
    ):
        cache = configure(backend, **more)
        cache.set("value", more)
        assert ask(cache, asked) == cache.get_many(asked)
        assert cache.get("value") == more


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        (f"{__name__}.Watched", {}),
        (DJANGO_REDIS, {"CLIENT_CLASS": f"{__name__}.Herd"}),
        (DJANGO_REDIS, {"REDIS_CLIENT_CLASS": f"{__name__}.ForeignClient"}),
        ("django.core.cache.backends.locmem.LocMemCache", {}),
    ],
)
def test_what_is_not_usual_is_left_to_get_many(
    backend: str, options: dict[str, Any], configure: Any
) -> None:
    assert ask(configure(backend, OPTIONS=options), question()) is None


def test_whoever_wraps_a_method_later_sees_every_read(
    backend: str, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = configure(backend)
    assert ask(cache, question()) is not None
    for owner, name in ((type(cache), "get_many"), (Client, "execute_command")):
        real = getattr(owner, name)

        @functools.wraps(real)
        def wrapped(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, wrapped)
            assert ask(cache, question()) is None
            del cache.__dict__["_pgnudge_asker"]
            assert ask(cache, question()) is None
        del cache.__dict__["_pgnudge_asker"]
        assert ask(cache, question()) is not None


def test_a_connection_that_the_server_has_closed_is_replaced(
    backend: str, configure: Any, redis_server: Redis
) -> None:
    cache = configure(backend)
    assert ask(cache, question()) is not None
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    assert (ask(cache, question()) or cache.get_many(KEYS)) == cache.get_many(KEYS)
    assert ask(cache, question()) == cache.get_many(KEYS)


def test_an_answer_that_came_too_late_is_nobody_elses(
    backend: str, configure: Any, redis_factory: Callable[..., Redis], settings: Settings
) -> None:
    options = {"socket_timeout": 0.2}
    if backend == DJANGO_REDIS:
        options = {"SOCKET_TIMEOUT": 0.2}
    redis = redis_factory()
    cache = configure(backend, LOCATION=redis.url, OPTIONS=options)
    assert ask(cache, question()) is not None
    redis.pause()
    try:
        with pytest.raises(RedisTimeoutError):
            ask(cache, question("absent", "value"))
    finally:
        redis.resume()
    assert ask(cache, question()) == cache.get_many(KEYS)


def test_a_refused_question_is_left_to_get_many(configure: Any, redis_server: Redis) -> None:
    address = redis_server.url.removeprefix("redis://")
    try:
        redis_server.command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all")
        cache = configure(DJANGO, LOCATION=f"redis://reader:pw@{address}")
        assert ask(cache, question()) is not None
        redis_server.command("ACL", "SETUSER", "reader", "-mget")
        assert ask(cache, question()) is None
    finally:
        redis_server.command("ACL", "DELUSER", "reader")


def test_threads_do_not_get_each_others_answers(backend: str, configure: Any) -> None:
    cache = configure(backend)
    cache.set_many({f"own:{number}": number * 1000 for number in range(8)})
    wrong = []

    def look(number: int) -> None:
        mine: Any = caches["default"]
        asked = Question(["lease", f"own:{number}"], single=f"own:{number}")
        for _ in range(200):
            found = ask(mine, asked)
            if found is None or found[f"own:{number}"] != number * 1000:
                wrong.append(found)
        mine.close()

    threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
