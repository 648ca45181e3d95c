"""The short way to a cache: one write a round, and the ordinary way whenever it does not work."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from redis import Redis as Client
from redis import exceptions as redis_errors
from servers.process import wait_until
from valkey import exceptions as valkey_errors

from django_pgnudge import caches
from django_pgnudge.caches import _wrap
from django_pgnudge.caches.rounds import Packed, Pipeline
from django_pgnudge.daemon.cache_memory import CacheMemory
from django_pgnudge.daemon.cache_worker import CacheWorker, Outcome
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.reader.keys import Names
from django_pgnudge.rules import CacheRef, Deletes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

NAMES = Names("default")
NoAnswerError = redis_errors.TimeoutError, valkey_errors.TimeoutError

BACKENDS = [
    "django_redis.cache.RedisCache",
    "django.core.cache.backends.redis.RedisCache",
    "django_valkey.cache.ValkeyCache",
]


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, settings: Settings, redis_server: Redis) -> Redis:
    settings.CACHES = {
        "default": {"BACKEND": request.param, "LOCATION": redis_server.url, "KEY_PREFIX": "site"}
    }
    return redis_server


def own_clients() -> list[Any]:
    """Those of the thread that asks, which nobody closes."""
    store: Any = _wrap("default", django_caches["default"])
    clients: list[Any] = store.clients()
    return clients


def is_open(worker: CacheWorker) -> bool:
    """Whether the next round goes the short way. Nothing tells but a round that does."""
    return worker._resting and worker._pipeline is not None  # noqa: SLF001


@pytest.fixture
async def worker(server: Redis) -> AsyncIterator[CacheWorker]:
    """One whose short way is open."""
    made = CacheWorker(
        "default",
        recovery=lambda alias: Invalidation(),
        fallback=lambda alias, refusals: Invalidation(),
    )
    made.memory = CacheMemory("default", NAMES)
    await done(made, invalidation("first"))
    clients = await made.call(own_clients)
    thread = await made.call(threading.current_thread)
    wait_until(lambda: is_open(made), "the thread to have nothing to do")
    yield made
    made.close()
    thread.join(10)
    for client in clients:
        client.connection_pool.disconnect()


def invalidation(
    *keys: str, tokens: tuple[str, ...] = ("token",), version: int | None = None
) -> Invalidation:
    made = Invalidation(tokens=set(tokens))
    made.add(CacheRef("default", version), Deletes(keys=set(keys)))
    return made


def epoch(worker: CacheWorker) -> str:
    assert worker.memory is not None
    return worker.memory.epoch


async def done(worker: CacheWorker, invalidation: Invalidation) -> Outcome:
    async with asyncio.timeout(10):
        return await worker.submit(invalidation)


@pytest.fixture
def client(server: Redis) -> Iterator[Client]:
    with Client.from_url(server.url) as made:
        yield made


async def test_a_round_is_tokens_then_keys_then_the_mark_then_tokens(
    worker: CacheWorker, client: Client
) -> None:
    cache = django_caches["default"]
    cache.set("a", 1)
    cache.set("b", 1, version=7)
    cache.set("token", 1)
    both = invalidation("a", "not there")
    both.add(CacheRef("default", 7), Deletes(keys={"b"}))
    with client.monitor() as monitor:
        assert await done(worker, both) == Outcome(done=True, deleted=2)
        client.ping()
        commands = []
        while (command := monitor.next_command()["command"]) != "PING":
            commands.append(command.split())
    clients = [words for words in commands if words[0] in {"UNLINK", "GETSET"}]
    assert [words[0] for words in clients] == ["UNLINK", "UNLINK", "UNLINK", "GETSET", "UNLINK"]
    assert clients[0] == clients[-1] == ["UNLINK", "site:1:token"]
    assert set(clients[1][1:]) == {"site:1:a", "site:1:not"} | {"there"}
    assert clients[2][1:] == ["site:7:b"]
    assert cache.get_many(["a", "token"]) == {}


@pytest.fixture
def senders(worker: CacheWorker, monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that sent rounds the short way."""
    found = []
    send = Pipeline.send

    def sent(self: Pipeline, packed: Packed) -> None:
        send(self, packed)
        found.append(threading.current_thread())

    monkeypatch.setattr(Pipeline, "send", sent)
    return found


async def test_the_loop_itself_sends_when_the_thread_has_nothing_to_do(
    worker: CacheWorker, senders: list[threading.Thread]
) -> None:
    assert await done(worker, invalidation("a")) == Outcome(done=True, deleted=0)
    assert senders == [threading.current_thread()]


async def test_a_redis_that_hangs_does_not_hold_up_the_loop(
    worker: CacheWorker, server: Redis, senders: list[threading.Thread]
) -> None:
    django_caches["default"].set_many({"a": 1, "b": 1})
    server.pause()
    try:
        wait_until(lambda: hangs(server), "Redis to stop")
        first = worker.submit(invalidation("a"))
        # Were it sent here too, it would wait for room some day.
        second = worker.submit(invalidation("b"))
        assert senders == [threading.current_thread()]
    finally:
        server.resume()
    async with asyncio.timeout(10):
        assert (await first).deleted == 1
        assert (await second).deleted == 1
    assert senders == [threading.current_thread(), await worker.call(threading.current_thread)]


def hangs(server: Redis) -> bool:
    with Client.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        try:
            client.ping()
        except NoAnswerError:
            return True
    return False


async def test_what_is_too_long_for_one_write_is_left_to_the_thread(
    worker: CacheWorker, senders: list[threading.Thread]
) -> None:
    keys = [f"{'long' * 10}{number}" for number in range(500)]
    django_caches["default"].set_many(dict.fromkeys(keys, 1))
    assert (await done(worker, invalidation(*keys))).deleted == 500
    assert senders == [await worker.call(threading.current_thread)]


async def test_a_connection_that_was_cut_costs_nothing_but_time(
    worker: CacheWorker, client: Client
) -> None:
    cache = django_caches["default"]
    cache.set_many({"a": 1, "token": 1})
    before = epoch(worker)
    client.client_kill_filter(_type="normal", skipme=True)
    assert await done(worker, invalidation("a")) == Outcome(done=True, deleted=1)
    assert cache.get_many(["a", "token"]) == {}
    assert epoch(worker) == before, "nothing was forgotten"
    assert worker.outages == 0


async def test_a_mark_that_is_not_the_last_one_ends_the_epoch(
    worker: CacheWorker, caplog: pytest.LogCaptureFixture
) -> None:
    cache = django_caches["default"]
    assert worker.memory is not None
    cache.incr(worker.memory.mark, -1)
    cache.set_many({"a": 1, NAMES.lease: 1})
    before = epoch(worker)
    assert (await done(worker, invalidation("a"))).done
    assert epoch(worker) != before
    assert cache.get(NAMES.lease) is None
    assert "lost memory" in caplog.text


async def test_a_mark_that_is_gone_ends_the_epoch(worker: CacheWorker) -> None:
    cache = django_caches["default"]
    cache.clear()
    before = epoch(worker)
    assert (await done(worker, invalidation("a"))).done
    assert epoch(worker) != before


async def test_a_key_that_cannot_be_sent_does_not_keep_the_others_alive(
    worker: CacheWorker,
) -> None:
    django_caches["default"].set("a", 1)
    assert (await done(worker, invalidation("a", "\ud800"))).deleted == 1


async def test_a_server_without_unlink_is_not_asked_again(
    worker: CacheWorker, client: Client, senders: list[threading.Thread]
) -> None:
    client.execute_command("ACL SETUSER default -unlink")
    before = epoch(worker)
    try:
        for _ in range(2):
            django_caches["default"].set("a", 1)
            assert await done(worker, invalidation("a")) == Outcome(done=True, deleted=1)
        assert len(senders) == 1
        assert epoch(worker) == before, "the mark of the round that was refused is known"
    finally:
        client.execute_command("ACL SETUSER default +unlink")


async def test_what_is_not_plain_goes_the_ordinary_way(worker: CacheWorker) -> None:
    cache = django_caches["default"]
    cache.set_many({"a": 1, "b:1": 1})
    patterns = invalidation("a")
    patterns.add(CacheRef("default"), Deletes(patterns={"b:*"}))
    assert await done(worker, patterns) == Outcome(done=True, deleted=2)


def test_other_caches_have_no_short_way(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert caches.pipeline("default") is None


def test_shards_have_no_short_way(settings: Settings, redis_server: Redis) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": [redis_server.database_url(0), redis_server.database_url(1)],
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
        }
    }
    assert caches.pipeline("default") is None
