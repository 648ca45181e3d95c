"""Caches: one of each backend that can list its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

    from tests.fix_servers import Database

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
REDIS = [DJANGO_REDIS, DJANGO, DJANGO_VALKEY]


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
