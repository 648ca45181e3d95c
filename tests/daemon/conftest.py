"""Caches of a daemon: two that fail when told, or a Redis with nudged values; and a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge.daemon import cache_worker
from django_pgnudge.daemon import core as daemon_module
from django_pgnudge.signals import model_changed, resynced, tables_changed
from tests.daemon.running import FLAKY, PRICES, Heard
from tests.fakes import FlakyCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

    from tests.fix_servers import Database


@pytest.fixture
def flaky_caches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two caches that can be broken, one rule each, no waiting."""
    settings.CACHES = {
        alias: {"BACKEND": FLAKY, "LOCATION": alias, "TIMEOUT": None}
        for alias in ("default", "fast")
    }
    settings.PGNUDGE = {
        "INVALIDATE": {
            PRICES: [
                {"keys": ["prices", "price:{pk}"]},
                {"keys": ["prices"], "cache": "fast"},
            ]
        }
    }
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: {"host": "nowhere"})
    monkeypatch.setattr(cache_worker, "BACKOFF", (0.005, 0.01))
    FlakyCache.down.clear()
    FlakyCache.hang.clear()
    yield
    FlakyCache.down.clear()
    for released in FlakyCache.hang.values():
        released.set()
    FlakyCache.hang.clear()
    for alias in ("default", "fast"):
        django_caches[alias].clear()


@pytest.fixture
def heard() -> Iterator[Heard]:
    listener = Heard()
    tables_changed.connect(listener.tables)
    model_changed.connect(listener.model)
    resynced.connect(listener.resync)
    yield listener
    tables_changed.disconnect(listener.tables)
    model_changed.disconnect(listener.model)
    resynced.disconnect(listener.resync)


@pytest.fixture
def values_in_redis(settings: Settings, redis_server: Redis) -> None:
    """Nudged values are in a Redis, and their lease is of two seconds."""
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url},
        # Rules of the test app name it.
        "fast": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    settings.PGNUDGE = {"NUDGED": {"CACHES": ["default"], "LEASE": 2.0}}


@pytest.fixture
def site(values_in_redis: None, django_postgres: Database) -> Database:
    return django_postgres
