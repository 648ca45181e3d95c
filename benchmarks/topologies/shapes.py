"""Caches of one server and of several, each as Django names it, and what can fail there."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from servers.cache_sets import PRIMARY, Memcached, Replicated, Sentinels
from servers.redis import Redis, RedisProgram, find_redises
from servers.redis_cluster import RedisCluster

__all__ = ["Running", "Shape", "shapes"]

DJANGO_REDIS: Final = "django_redis.cache.RedisCache"
DJANGO_VALKEY: Final = "django_valkey.cache.ValkeyCache"
DJANGO: Final = "django.core.cache.backends.redis.RedisCache"


@dataclass(frozen=True, slots=True)
class Running:
    """A cache that runs: the entry of CACHES, settings beside it, and what kills its primary."""

    cache: dict[str, Any]
    fail_over: Callable[[], object] | None = None
    more: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to have a cache. ``lacks`` says what this machine has not; ``refused`` whether no
    value may be kept there."""

    name: str
    open: Callable[[], AbstractContextManager[Running]]
    lacks: str = ""
    refused: bool = False


def shapes() -> list[Shape]:
    """All of them; those of Redis with each version that is here, or with the first."""
    found: list[Shape] = []
    redises = find_redises()
    for program in redises:
        for backend, path in (
            ("django-redis", DJANGO_REDIS), ("Django's", DJANGO), ("django-valkey", DJANGO_VALKEY),
        ):  # fmt: skip
            name = f"{program.name}, {backend}"
            found.append(Shape(name, functools.partial(_one, program, path)))
    sets: list[RedisProgram | None] = [*redises] or [None]
    for each in sets:
        of = each.name if each else "Redis"
        lacks = "" if each else "Redis"
        for name, opened in (
            ("primary and two replicas, Django's", _replicated),
            ("primary and two replicas, django-redis", _replicated_django_redis),
            ("three sentinels, django-redis", _sentinels),
            ("cluster of three with replicas, django-valkey", _cluster_valkey),
            ("cluster of three with replicas, django-redis", _cluster_redis),
        ):
            found.append(Shape(f"{of}, {name}", functools.partial(opened, each), lacks))
    no_memcached = "" if Memcached.installed() and _has("pymemcache") else "memcached"
    found += [
        Shape("memcached", _memcached, no_memcached),
        Shape("two memcached", _two_memcached, no_memcached, refused=True),
        Shape("a table of the database", _table),
        Shape("files", _files),
    ]
    return found


@contextmanager
def _one(program: RedisProgram, backend: str) -> Iterator[Running]:
    with Redis(program) as redis:
        yield Running({"BACKEND": backend, "LOCATION": redis.url})


@contextmanager
def _replicated(program: RedisProgram | None, backend: str = DJANGO) -> Iterator[Running]:
    with Replicated(program) as redises:
        yield Running({"BACKEND": backend, "LOCATION": redises.urls})


def _replicated_django_redis(program: RedisProgram | None) -> AbstractContextManager[Running]:
    return _replicated(program, DJANGO_REDIS)


@contextmanager
def _sentinels(program: RedisProgram | None) -> Iterator[Running]:
    with Sentinels(program) as redises:
        options = {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "SENTINELS": redises.addresses,
        }
        location = f"redis://{PRIMARY}/0"
        yield Running(
            {"BACKEND": DJANGO_REDIS, "LOCATION": location, "OPTIONS": options},
            redises.fail_over,
            (("DJANGO_REDIS_CONNECTION_FACTORY", "django_redis.pool.SentinelConnectionFactory"),),
        )


@contextmanager
def _cluster(program: RedisProgram | None, cache: dict[str, Any]) -> Iterator[Running]:
    with RedisCluster(program, replicas=3) as cluster:

        def fail_over() -> None:
            # Each of the three, one after the other, and so the one with the lease.
            for node in cluster.nodes[:3]:
                node.kill()
                cluster.wait_until_whole()
                node.start()
                cluster.wait_until_whole()

        yield Running({**cache, "LOCATION": cluster.url}, fail_over)


def _cluster_valkey(program: RedisProgram | None) -> AbstractContextManager[Running]:
    cache = {"BACKEND": "django_valkey.cluster_cache.cache.ClusterValkeyCache"}
    return _cluster(program, cache)


def _cluster_redis(program: RedisProgram | None) -> AbstractContextManager[Running]:
    factory = "benchmarks.topologies.site.factory.ClusterFactory"
    return _cluster(program, {"BACKEND": DJANGO_REDIS, "OPTIONS": {"CONNECTION_FACTORY": factory}})


@contextmanager
def _memcached() -> Iterator[Running]:
    with Memcached() as server:
        yield Running(_of_memcached([server.address]))


@contextmanager
def _two_memcached() -> Iterator[Running]:
    with Memcached() as one, Memcached() as other:
        yield Running(_of_memcached([one.address, other.address]))


def _of_memcached(addresses: list[str]) -> dict[str, Any]:
    backend = "django.core.cache.backends.memcached.PyMemcacheCache"
    return {"BACKEND": backend, "LOCATION": addresses}


@contextmanager
def _table() -> Iterator[Running]:
    backend = "django.core.cache.backends.db.DatabaseCache"
    yield Running({"BACKEND": backend, "LOCATION": "cache_table"})


@contextmanager
def _files() -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgnudge-files-"))
        backend = "django.core.cache.backends.filebased.FileBasedCache"
        yield Running({"BACKEND": backend, "LOCATION": folder})


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
