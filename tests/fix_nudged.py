"""Fixtures for nudged values: `nudge_fake` on each cache backend, and what is asked of a cache.

| fixture | gives |
|---|---|
| `each_cache` | configures the cache "default" as each backend in turn; skips by name |
| `real_sessions` | `nudge_fake` on `django_postgres`: sessions and tables are really asked |
| `emptied` | `nudge_fake` with a lease, and nothing kept |
| `no_connections_closed` | signals of requests leave the test's connection open |
| `fresh_threads` | no connection of another test in the thread that asgiref keeps for async code |
"""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from servers.cache_sets import Memcached

from django_pgnudge import caches as pgnudge_caches
from django_pgnudge.caches import Question
from django_pgnudge.caches.redis_value_store import RedisValueStore
from django_pgnudge.log import forget_logged
from django_pgnudge.reader import declared
from django_pgnudge.reader.keys import Lease, Names
from django_pgnudge.reader.state import empty_states, reader_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from django_pgnudge.testing import NudgeFake

METHODS = ("get", "set", "add", "delete", "get_many", "set_many", "delete_many")
KINDS = ("django_redis", "django_valkey", "redis", "locmem", "file", "database", "memcached")

REDIS = {
    "django_redis": "django_redis.cache.RedisCache",
    "django_valkey": "django_valkey.cache.ValkeyCache",
    "redis": "django.core.cache.backends.redis.RedisCache",
}


@pytest.fixture(autouse=True)
def _declared_by_this_test_alone() -> Iterator[None]:
    """The system checks, which `runnudge` runs too, would find the slips of other tests."""
    with mock.patch.dict(declared._declared, clear=True):  # noqa: SLF001 - no test knows another's
        yield


@pytest.fixture
def emptied(nudge_fake: NudgeFake) -> None:
    """Nothing is kept, nothing was said, and there is a lease."""
    forget_logged()
    caches["default"].clear()
    nudge_fake.lease()


@pytest.fixture
def no_connections_closed() -> Iterator[None]:
    """Signals of requests that a test sends leave the test's own connection open."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.fixture(params=KINDS)
def each_cache(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Iterator[str]:
    kind: str = request.param
    backends = "django.core.cache.backends"
    if kind in REDIS:
        redis = request.getfixturevalue("redis_server")
        settings.CACHES = {"default": {"BACKEND": REDIS[kind], "LOCATION": redis.url}}
    elif kind == "locmem":
        settings.CACHES = {
            "default": {"BACKEND": f"{backends}.locmem.LocMemCache", "LOCATION": request.node.name}
        }
    elif kind == "file":
        settings.CACHES = {
            "default": {
                "BACKEND": f"{backends}.filebased.FileBasedCache",
                "LOCATION": str(tmp_path),
            }
        }
    elif kind == "database":
        request.getfixturevalue("django_postgres")
        settings.CACHES = {
            "default": {"BACKEND": f"{backends}.db.DatabaseCache", "LOCATION": "nudged_cache"}
        }
        call_command("createcachetable", verbosity=0)
    else:
        settings.CACHES = {"default": request.getfixturevalue("memcached")}
    yield kind
    caches["default"].close()


@pytest.fixture
def memcached() -> Iterator[dict[str, Any]]:
    if Memcached.installed() is None or importlib.util.find_spec("pymemcache") is None:
        pytest.skip("memcached: install memcached and pymemcache")
    with Memcached() as server:
        yield {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": server.address,
        }


@contextlib.contextmanager
def asking_postgres(fake: NudgeFake) -> Iterator[None]:
    """Readers ask PostgreSQL about their sessions and tables, as they do beside a daemon."""
    from django_pgnudge.testing.fake import BelievingState  # pytest rewrites the plugin first

    with empty_states(BelievingState):
        # They know the database by its own name.
        fake.names = names_of()
        fake.lease()
        yield


@pytest.fixture
def real_sessions(django_postgres: Any, nudge_fake: NudgeFake) -> Iterator[NudgeFake]:
    forget_logged()
    with asking_postgres(nudge_fake):
        yield nudge_fake


@pytest.fixture
async def fresh_threads(django_postgres: Any) -> AsyncIterator[None]:
    def forget_connections() -> None:
        for alias in connections:
            connections[alias].close()
            del connections[alias]

    await sync_to_async(forget_connections)()
    yield
    await sync_to_async(forget_connections)()


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests to the cache "default": methods called on it from outside, without what they
    call in turn, and messages to a Redis.
    """
    kind = type(caches["default"])
    calls: list[str] = []
    inside: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(kind, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not inside:
                calls.append(name)
            inside.append(name)
            try:
                return real(self, *args, **kwargs)
            finally:
                inside.pop()

        return call

    for name in METHODS:
        monkeypatch.setattr(kind, name, counted(name))
    exchange = RedisValueStore._exchange  # noqa: SLF001 - each round of questions

    def exchanged(self: Any, *args: Any) -> Any:
        # Of a Redis the backend is not asked, but its server.
        calls.append("exchange")
        return exchange(self, *args)

    monkeypatch.setattr(RedisValueStore, "_exchange", exchanged)
    return calls


def names_of(alias: str = "default") -> Names:
    """The names of a database's keys, as readers and the daemon have them."""
    identity = reader_state(alias).tables.identity()
    assert identity is not None
    return Names.of(identity)


def lease_in(cache: str, names: Names) -> Lease | None:
    """The lease that holds in a cache."""
    values = pgnudge_caches.values(cache)
    answer = values.ask(Question(names.lease, names.entry("none"), ()))
    lease = Lease.parse(answer.texts.get(names.lease, ""))
    return lease if lease is not None and lease.holds(answer.now, 0.0) else None
