"""values: what a reader asks of a cache at once, what it makes there, and by which clock."""

from __future__ import annotations

import os
import pickle
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from django_redis.client import DefaultClient  # type: ignore[import-untyped]
from redis import Redis as Client
from redis import exceptions as redis_errors
from servers.process import free_port, wait_until
from valkey import exceptions as valkey_errors

from django_pgnudge import caches
from django_pgnudge.caches import Mark, Question, ValueStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings
    from servers.proxy import Proxy
    from servers.redis import Redis

LostError = redis_errors.ConnectionError, valkey_errors.ConnectionError
NoAnswerError = redis_errors.TimeoutError, valkey_errors.TimeoutError

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"

TOKEN = "0" * 24
QUESTION = ("lease", "entry", ("one", "two"))


@pytest.fixture(params=[DJANGO_REDIS, DJANGO, DJANGO_VALKEY])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def configure(settings: Settings) -> Iterator[Callable[..., ValueStore]]:
    """Configures cache "default" and gives its values."""

    def use(backend: str, location: Any, **more: Any) -> ValueStore:
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location, **more}}
        return caches.values("default")

    yield use
    django_caches["default"].close()


def fill(values: ValueStore) -> None:
    values.set_text("lease", "the lease")
    values.add("one", TOKEN, 60)
    values.keep("entry", "the stamp", [1, 2], 60)


def test_each_cache_answers_all_that_is_asked(each_cache: str) -> None:
    values = caches.values("default")
    question = Question(*QUESTION)
    before = values.now("lease")
    empty = values.ask(question)
    assert (empty.texts, empty.entry, empty.foreign) == ({}, None, frozenset())
    fill(values)
    found = values.ask(question)
    assert found.texts == {"lease": "the lease", "one": TOKEN}
    assert found.entry is not None
    assert (found.entry.stamp, found.entry.load()) == ("the stamp", [1, 2])
    assert before <= empty.now <= found.now <= values.now("lease")


def test_a_token_that_is_there_stays_and_one_that_is_missing_is_made(each_cache: str) -> None:
    values = caches.values("default")
    fill(values)
    mine = {"one": ("1" * 24, None), "two": ("2" * 24, 60)}
    found = values.make(Question(*QUESTION), mine)
    assert (found.texts["one"], found.texts["two"]) == (TOKEN, "2" * 24)
    values.delete(["one", "two", "entry"])
    assert values.ask(Question(*QUESTION)).texts == {"lease": "the lease"}


def expecting(values: ValueStore, number: int) -> Mark:
    return Mark("mark", "lease", number, values.next_mark(number))


def test_a_lease_is_written_only_if_the_mark_stands(each_cache: str) -> None:
    values = caches.values("default")
    values.set("mark", 7, 60)
    mark = expecting(values, 7)
    assert values.witness(mark).marked
    assert not values.grant("lease", "late", 60, "mark", 7)
    assert values.ask(Question(*QUESTION)).texts == {}
    assert values.grant("lease", "in time", 60, "mark", mark.raised)
    assert values.witness(expecting(values, mark.raised)).lease == "in time"


@pytest.mark.parametrize("number", [6, 8, None])
def test_a_mark_that_is_not_the_last_one_is_told(each_cache: str, number: int | None) -> None:
    values = caches.values("default")
    if number is not None:
        values.set("mark", number, 60)
    assert not values.witness(expecting(values, 7)).marked


def test_what_a_round_ends_goes_in_the_step_that_raises_the_mark(each_cache: str) -> None:
    values = caches.values("default")
    fill(values)
    values.set("mark", 7, 60)
    seen = values.witness(expecting(values, 7), ["one", "entry"])
    assert seen.lease == "the lease"
    assert seen.marked
    assert values.ask(Question(*QUESTION)).texts == {"lease": "the lease"}


def test_a_round_that_comes_again_cannot_make_up_for_one_that_was_lost(
    backend: str, configure: Any, redis_server: Redis
) -> None:
    """By counting, two rounds of which one is lost and one comes twice would be two."""
    values = configure(backend, redis_server.url)
    values.set("mark", 7, 60)
    second = expecting(values, 7)
    assert values.witness(second).marked
    values.set("mark", 7, 60)  # an older memory
    first_again = expecting(values, 7)
    assert values.witness(first_again).marked
    assert first_again.raised != second.raised
    assert not values.witness(expecting(values, second.raised)).marked


class Gone:
    """Of a class that the next deploy does not have."""

    def __reduce__(self) -> Any:
        return Gone._load, ()

    @staticmethod
    def _load() -> Any:
        raise ModuleNotFoundError("no such module")


def test_a_value_that_cannot_be_read_keeps_nothing_else_from_being_read(each_cache: str) -> None:
    values = caches.values("default")
    values.set_text("lease", "the lease")
    values.keep("entry", "the stamp", Gone(), 60)
    found = values.ask(Question(*QUESTION))
    assert found.texts == {"lease": "the lease"}
    if found.entry is not None:
        with pytest.raises(ModuleNotFoundError):
            found.entry.load()


@pytest.mark.parametrize("bytes_", [b"\xff\xfe", b"x", pickle.dumps({1}), pickle.dumps(None)])
def test_bytes_that_are_not_ours_are_told_apart(
    backend: str, configure: Any, redis_server: Redis, bytes_: bytes
) -> None:
    values = configure(backend, redis_server.url)
    with Client.from_url(redis_server.url) as client:
        for key in ("lease", "entry", "one"):
            client.set(f":1:{key}", bytes_)
    found = values.ask(Question(*QUESTION))
    assert found.entry is None
    assert set(found.texts) | found.foreign == {"lease", "one"}


# Keys.


def by_tenant(key: str, prefix: str, version: int) -> str:
    return f"{os.environ['TENANT']}:{prefix}:{version}:{key}"


def test_a_key_function_by_tenant_hides_no_lease(
    each_cache: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{__name__}.by_tenant"
    settings.CACHES = {"default": {**settings.CACHES["default"], "KEY_FUNCTION": name}}
    monkeypatch.setenv("TENANT", "daemon")
    fill(caches.values("default"))
    monkeypatch.setenv("TENANT", "acme")
    found = caches.values("default").ask(Question(*QUESTION))
    assert found.texts == {"lease": "the lease", "one": TOKEN}
    caches.values("default").delete(["lease", "one"])
    monkeypatch.setenv("TENANT", "daemon")
    assert caches.values("default").ask(Question(*QUESTION)).texts == {}


def test_one_question_serves_caches_of_other_prefixes_and_versions(
    backend: str, configure: Any, redis_server: Redis
) -> None:
    asked = Question(*QUESTION)
    settings: list[dict[str, Any]] = [{}, {"KEY_PREFIX": "a"}, {"KEY_PREFIX": "ä", "VERSION": 2}]
    for number, more in enumerate(settings):
        values = configure(backend, redis_server.url, **more)
        values.set_text("lease", f"lease {number}")
        assert values.ask(asked).texts == {"lease": f"lease {number}"}
    assert redis_server.command("DBSIZE") == ":3"


# Which server, and how often.


@pytest.fixture
def pair(redis_factory: Any) -> tuple[Redis, Redis]:
    """A primary, and a replica that is behind: it has what the primary had a while ago."""
    return redis_factory(), redis_factory()


def test_of_a_primary_and_replicas_the_primary_is_asked(
    backend: str, configure: Any, pair: tuple[Redis, Redis]
) -> None:
    primary, replica = pair
    values = configure(backend, f"{primary.url},{replica.url}")
    fill(values)
    for _ in range(5):
        assert values.ask(Question(*QUESTION)).texts == {"lease": "the lease", "one": TOKEN}
    assert replica.command("DBSIZE") == ":0"


def test_a_request_that_makes_a_token_is_sent_once(
    backend: str, configure: Any, redis_server: Redis, proxy_to: Callable[..., Proxy]
) -> None:
    """A client that sends it again could bring back a token that has been ended in between."""
    proxy = proxy_to(("127.0.0.1", redis_server.port))
    values = configure(
        backend,
        f"redis://{proxy.host}:{proxy.port}/0",
        OPTIONS={"socket_timeout": 0.3} if backend == DJANGO else {"SOCKET_TIMEOUT": 0.3},
    )
    question = Question(*QUESTION)
    values.ask(question)
    with Client.from_url(redis_server.url) as client:
        client.config_resetstat()
        # What is sent arrives, and no answer comes back.
        proxy.stall("to_client")
        with pytest.raises(NoAnswerError):
            values.make(question, {"one": (TOKEN, None)})
        assert client.info("commandstats")["cmdstat_set"]["calls"] == 1


def test_a_request_that_makes_a_token_is_not_sent_again_when_the_connection_is_lost(
    backend: str, configure: Any, redis_server: Redis, proxy_to: Callable[..., Proxy]
) -> None:
    proxy = proxy_to(("127.0.0.1", redis_server.port))
    values = configure(backend, f"redis://{proxy.host}:{proxy.port}/0")
    question = Question(*QUESTION)
    values.ask(question)
    with losing_the_answer_to("set", proxy, redis_server) as calls:
        with pytest.raises(LostError):
            values.make(question, {"one": (TOKEN, None)})
        assert calls() == 1


def test_a_question_survives_a_connection_that_is_lost(
    backend: str, configure: Any, redis_server: Redis, proxy_to: Callable[..., Proxy]
) -> None:
    proxy = proxy_to(("127.0.0.1", redis_server.port))
    values = configure(backend, f"redis://{proxy.host}:{proxy.port}/0")
    fill(values)
    with losing_the_answer_to("mget", proxy, redis_server) as calls:
        found = values.ask(Question(*QUESTION))
        assert found.texts == {"lease": "the lease", "one": TOKEN}
        assert calls() == 2


@contextmanager
def losing_the_answer_to(command: str, proxy: Proxy, server: Redis) -> Iterator[Callable[[], int]]:
    """The connection is cut once Redis has run the command, and its answer is on the way.

    Gives how often it was run.
    """
    with Client.from_url(server.url) as client:

        def calls() -> int:
            stats: dict[str, Any] = client.info("commandstats")
            return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

        def cut() -> None:
            wait_until(lambda: calls() > 0, f"{command} arrives")
            proxy.cut()
            proxy.resume("to_client")

        client.config_resetstat()
        proxy.stall("to_client")
        thread = threading.Thread(target=cut)
        thread.start()
        try:
            yield calls
        finally:
            thread.join()


def test_without_scripts_the_mark_is_watched(
    backend: str, configure: Any, redis_server: Redis
) -> None:
    values = configure(backend, redis_server.url)
    with Client.from_url(redis_server.url) as client:
        client.execute_command("ACL SETUSER default -eval")
        try:
            values.set("mark", 7, 60)
            assert not values.grant("lease", "text", 60, "mark", 6)
            assert values.grant("lease", "text", 60, "mark", 7)
        finally:
            client.execute_command("ACL SETUSER default +eval")
    assert values.ask(Question(*QUESTION)).texts == {"lease": "text"}


# Caches that cannot hold them.


def test_caches_whose_servers_forget_in_parts_are_refused(
    configure: Any, redis_server: Redis
) -> None:
    local = f"127.0.0.1:{free_port()}"
    memcached = "django.core.cache.backends.memcached.PyMemcacheCache"
    assert configure(memcached, local).refusal() is None
    assert "several memcached servers" in configure(memcached, [local, local]).refusal()
    shards = [redis_server.database_url(0), redis_server.database_url(1)]
    options = {"CLIENT_CLASS": "django_redis.client.ShardClient"}
    assert "several servers" in configure(DJANGO_REDIS, shards, OPTIONS=options).refusal()
    dummy = "django.core.cache.backends.dummy.DummyCache"
    assert "keeps nothing" in configure(dummy, "").refusal()


class Herd(DefaultClient):  # type: ignore[misc]
    """A client of the site's own, which reads in its own way."""

    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nudged values pass by it")


def test_a_client_of_the_sites_own_neither_swallows_nor_changes_what_is_asked(
    configure: Any, redis_server: Redis
) -> None:
    options = {"CLIENT_CLASS": f"{__name__}.Herd", "IGNORE_EXCEPTIONS": True}
    values = configure(DJANGO_REDIS, redis_server.url, OPTIONS=options)
    fill(values)
    assert values.ask(Question(*QUESTION)).texts == {"lease": "the lease", "one": TOKEN}
