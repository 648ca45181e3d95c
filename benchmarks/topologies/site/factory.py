"""What a site adds to django-redis for a Redis Cluster, as docs/deployment.md has it."""

from __future__ import annotations

from typing import Any

from django_redis.pool import ConnectionFactory  # type: ignore[import-untyped]
from redis import RedisCluster


class ClusterFactory(ConnectionFactory):  # type: ignore[misc]
    """For ``OPTIONS["CONNECTION_FACTORY"]``."""

    clients: dict[str, Any] = {}

    def connect(self, url: str) -> Any:
        if url not in self.clients:
            self.clients[url] = RedisCluster.from_url(url, socket_timeout=1)
        return self.clients[url]

    def disconnect(self, connection: Any) -> None:
        """Nothing: all threads share it."""
