"""How a site has a Redis Cluster behind Django's own backend: by a few lines."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis import RedisCluster


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
