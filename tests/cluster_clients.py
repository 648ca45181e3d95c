"""How a site has a Redis Cluster behind django-redis or Django's own backend: by a few lines."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from django_redis.pool import ConnectionFactory  # type: ignore[import-untyped]
from redis import RedisCluster


class ClusterFactory(ConnectionFactory):  # type: ignore[misc]
    """For ``OPTIONS["CONNECTION_FACTORY"]`` of django-redis."""

    _clients: dict[str, Any] = {}

    def connect(self, url: str) -> Any:
        if url not in self._clients:
            self._clients[url] = RedisCluster.from_url(url)
        return self._clients[url]

    def disconnect(self, connection: Any) -> None:
        connection.disconnect_connection_pools()


class ClusterClient(RedisCacheClient):
    """Of Django's backend."""

    def __init__(self, servers: Any, **options: Any) -> None:
        super().__init__(servers, **options)
        self._url = servers[0]
        self._cluster: Any = None

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        if self._cluster is None:
            self._cluster = RedisCluster.from_url(self._url)
        return self._cluster


class ClusterCache(RedisCache):
    """Django's backend with that client."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = ClusterClient
