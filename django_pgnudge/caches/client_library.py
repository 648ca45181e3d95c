"""The client library below a backend: redis-py, or valkey-py, which was made of it.

Each has the same classes, some under another name. None is imported by a process that does not use
it: an instance of a backend can only exist once its module is loaded.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import queue
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

    from django.core.cache.backends.base import BaseCache

_BACKENDS: Final = {
    "django_redis.cache": ("RedisCache", "redis"),
    "django_valkey.cache": ("ValkeyCache", "valkey"),
    "django_valkey.cluster_cache.cache": ("ClusterValkeyCache", "valkey"),
    "django.core.cache.backends.redis": ("RedisCache", "redis"),
}
"""The class of each backend, and the library that it uses, by its module."""

_CLIENTS: Final = {"redis": ("Redis", "RedisCluster"), "valkey": ("Valkey", "ValkeyCluster")}


class Library:
    """One of the two; ``errors`` is its module of exceptions."""

    def __init__(self, module: ModuleType) -> None:
        self._name = module.__name__
        self.errors: Any = importlib.import_module(f"{module.__name__}.exceptions")
        one, cluster = _CLIENTS[module.__name__]
        self.client: type[Any] = getattr(module, one)
        self.cluster: type[Any] = getattr(module, cluster)
        errors = self.errors
        self.moved: tuple[type[Exception], ...] = (
            errors.MovedError, errors.ConnectionError, errors.TimeoutError,
            errors.ClusterDownError, errors.ReadOnlyError, getattr(errors, f"{cluster}Exception"),
        )  # fmt: skip
        """A node of a cluster that has gone, or has other slots by now; MasterDownError is a
        ClusterDownError."""
        self.pools: set[type[Any]] = {module.ConnectionPool, module.BlockingConnectionPool}
        self.connect: Callable[[Any], Any] = _connecting(module)

    def node(self, cluster: Any, node: Any) -> Any:
        """The client to one node of a cluster."""
        return getattr(cluster, f"get_{self._name}_connection")(node)

    def primaries(self, cluster: Any) -> list[Any]:
        """The clients to the primaries of a cluster."""
        return [self.node(cluster, node) for node in cluster.get_primaries()]

    def is_moved(self, error: BaseException) -> bool:
        """Whether a failure may come from a node that has gone, or has other slots by now.

        A pool that has no connection left says it as a node does that is away.
        """
        is_full = isinstance(error.__context__, queue.Empty | IndexError)
        is_busy = is_full or type(error).__name__ == "MaxConnectionsError"  # of newer releases
        return isinstance(error, self.moved) and not is_busy

    def follow(self, cluster: Any, error: Any) -> None:
        """Note where a slot is that has moved, as MovedError says."""
        manager = cluster.nodes_manager
        note = getattr(manager, "move_slot", None) or manager.update_moved_exception
        note(error)

    def look_again(self, cluster: Any, failed: str = "") -> None:
        """Ask a cluster which node has which slots, and the node named so last.

        What is sent by way of the cluster's own methods does this by itself, where it fails.
        """
        manager = cluster.nodes_manager
        node = manager.startup_nodes.pop(failed, None)
        if node is not None:
            manager.startup_nodes[failed] = node
        takes_it = "last_failed_node_name" in inspect.signature(manager.initialize).parameters
        manager.initialize(**({"last_failed_node_name": failed} if takes_it and failed else {}))


def is_like_django_redis(cache: BaseCache) -> bool:
    """Whether it is django-redis, or django-valkey, which has its interface."""
    found = _module_of(cache)
    return found is not None and found != "django.core.cache.backends.redis"


def is_redis(cache: BaseCache) -> bool:
    """Whether it is one of the backends for a Redis that are known."""
    return _module_of(cache) is not None


def library_of(cache: BaseCache) -> Library:
    """What this backend uses."""
    module = _module_of(cache)
    assert module is not None
    return _library(_BACKENDS[module][1])


def library_of_client(client: Any) -> Library:
    """What this client is of; a class of one's own is derived from one of the library's."""
    roots = (kind.__module__.partition(".")[0] for kind in type(client).__mro__)
    return _library(next(root for root in roots if root in _CLIENTS))


def is_refused(exc: Exception) -> bool:
    """Whether the server will never run this command: it has none such, or an ACL forbids it."""
    is_forbidden = type(exc).__name__ == "NoPermissionError"  # of either library
    return is_forbidden or "unknown command" in str(exc).lower()


@functools.cache
def _library(name: str) -> Library:
    return Library(importlib.import_module(name))


def _module_of(cache: BaseCache) -> str | None:
    for name, (kind, _) in _BACKENDS.items():
        module = sys.modules.get(name)
        if module is not None and isinstance(cache, getattr(module, kind)):
            return name
    return None


def _connecting(module: ModuleType) -> Callable[[Any], Any]:
    """How this release takes a connection from a pool."""
    release = tuple(map(int, module.__version__.split(".")[:2]))
    if module.__name__ == "redis" and release >= (5, 3):
        return lambda pool: pool.get_connection()
    return lambda pool: pool.get_connection("MGET")
