"""Redis, through django-redis, django-valkey or Django's own backend, below what hides failures.

With IGNORE_EXCEPTIONS the former two answer a delete on a dead Redis with None; an invalidator must
know. So the raw client is asked, which raises. Nothing here sends FLUSHDB, KEYS or one giant
pipeline: keys are found and deleted in steps, between which other clients have their turns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django_pgnudge.caches.client_library import (
    is_like_django_redis,
    is_refused,
    library_of,
    library_of_client,
)
from django_pgnudge.caches.store import CHUNK, Store, chunked
from django_pgnudge.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from django.core.cache.backends.base import BaseCache


T = TypeVar("T")

STEP: Final = 300
"""Buckets looked at by one SCAN, all other clients waiting: half a millisecond.

The backends' usual 10 takes 300k keys seven times as long.
"""

_SWEEP: Final = """
local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local spared, doomed, count = ARGV[4], {}, 0
for _, key in ipairs(step[2]) do
    if spared == '' or string.sub(key, 1, #spared) ~= spared then doomed[#doomed + 1] = key end
end
for first = 1, #doomed, 1000 do
    count = count + redis.call('UNLINK', unpack(doomed, first, math.min(first + 999, #doomed)))
end
return {step[1], count}
"""
"""One step on the server: neither the keys' names nor a second command go through the network."""

_GLOB_SPECIAL = re.compile(r"([*?\[\]\\])")


class RedisStore(Store):
    """A Redis of either backend; one server, sentinel, cluster, or django-redis's shards."""

    patterns = True
    enumerates = True

    def __init__(self, alias: str, cache: BaseCache, *, attached: bool = False) -> None:
        super().__init__(alias, cache, attached=attached)
        self.library = library_of(cache)
        self._is_django_redis = is_like_django_redis(cache)

    def clients(self) -> list[Any]:
        """The raw clients that take writes."""
        if self._is_django_redis:
            client = self.cache.client
            shards = getattr(client, "_serverdict", None)
            return list(shards.values()) if shards else [client.get_client(write=True)]
        return [self.cache._cache.get_client(write=True)]  # noqa: SLF001 - the only way to it

    def _of_servers(self, ask: Callable[[Any], T]) -> list[T]:
        """What each server says that takes writes: each primary of a cluster."""
        return [ask(server) for client in self.clients() for server in _servers(client)]

    @property
    def address(self) -> str:
        try:
            return ", ".join(_address(client) for client in self.clients())
        except Exception:
            # This decorates an error and must not replace it.
            return type(self.cache).__name__

    def stored(self, keys: Iterable[str], version: int | None) -> Iterator[str]:
        """The keys as Redis has them."""
        make_key = self.cache.client.make_key if self._is_django_redis else self.cache.make_key
        return (str(make_key(key, version=version)) for key in keys)

    def pool(self) -> Any:
        """The connections to the primary."""
        if self._is_django_redis:
            return self.cache.client.get_client(write=True).connection_pool
        return self.cache._cache._get_connection_pool(write=True)  # noqa: SLF001

    def codec(self) -> tuple[Callable[[Any], Any], Callable[[bytes], Any]]:
        """How the backend writes a value and reads it."""
        if self._is_django_redis:
            return self.cache.client.encode, self.cache.client.decode
        serializer = self.cache._cache._serializer  # noqa: SLF001
        return serializer.dumps, serializer.loads

    @property
    def is_cluster(self) -> bool:
        """Whether it is a Redis Cluster, whose client finds the node of each key."""
        return isinstance(self.clients()[0], self.library.cluster)

    def delete_keys(self, keys: Iterable[str], version: int | None) -> int:
        return self._unlink_everywhere(self.stored(keys, version))

    def connection_of_its_own(self) -> Any | None:
        """For rounds of deletes in one write each, not yet connected; None if there can be none."""
        library, clients = self.library, self.clients()
        pool: Any = clients[0].connection_pool if isinstance(clients[0], library.client) else None
        if len(clients) > 1 or type(pool) not in library.pools:
            # Shards, a cluster, a sentinel: where a key lives is for their client to know.
            return None
        return pool.connection_class(**pool.connection_kwargs)

    def _unlink_everywhere(self, stored: Iterable[str]) -> int:
        clients = self.clients()
        count = 0
        for chunk in chunked(stored, CHUNK):
            # On shards each key has one home; the others answer 0 for it.
            count += sum(_unlink(client, chunk) for client in clients)
        return count

    def delete_patterns(self, patterns: Iterable[str], version: int | None) -> int:
        return sum(self._delete_matching(self._match(glob, version), None) for glob in patterns)

    def clear_version(self, version: int | None, spared: str | None = None) -> int:
        return self._delete_matching(self._match("*", version), spared)

    def _match(self, glob: str, version: int | None) -> str:
        """The glob of the stored keys."""
        layout = self.layout(version)
        return f"{_literal(layout.head)}{glob}{_literal(layout.tail)}"

    def _delete_matching(self, match: str, spared: str | None) -> int:
        count = 0
        for client in self.clients():
            try:
                count += _sweep(client, match, spared or "")
            except self.library.errors.ResponseError as exc:
                if not is_refused(exc):
                    raise
                msg = (
                    f"Cache {self.alias!r} ({self.address}) cannot list its keys ({exc}), so "
                    "neither patterns nor whole versions can be deleted: allow its user SCAN, "
                    'or name fixed keys in the rules and set PGNUDGE["RESYNC"] to "keys".'
                )
                raise UnsupportedError(msg) from exc
        return count

    def clear(self) -> None:
        self._of_servers(lambda server: server.flushdb())

    def count_matching(self, glob: str, version: int | None, spared: str | None = None) -> int:
        match = self._match(glob, version)
        return sum(
            1 for client in self.clients() for _ in _scan(client, match, (spared or "").encode())
        )

    def let_go(self) -> None:
        # django-redis shares its pools among the caches of a process.
        if not self._is_django_redis:
            for client in self.clients():
                if isinstance(client, self.library.cluster):
                    client.disconnect_connection_pools()
                else:
                    client.connection_pool.disconnect()

    def delete_beginning(self, head: str) -> None:
        self._delete_matching(f"{_literal(head)}*", None)

    def size(self) -> int | None:
        return sum(self._of_servers(lambda server: int(server.dbsize())))

    def incarnation(self) -> str | None:
        try:
            infos: list[Any] = self._of_servers(lambda server: server.info("server"))
        except self.library.errors.ResponseError:
            return None  # An ACL or a Redis-like server without INFO; outages still show.
        return " ".join(sorted(str(info.get("run_id", info)) for info in infos))

    def places(self) -> frozenset[Hashable]:
        return frozenset(self._of_servers(_place))


def _servers(client: Any) -> list[Any]:
    """The server, or the primaries of a cluster, as it says now: a new one has no key yet that
    would lead to it."""
    library = library_of_client(client)
    if not isinstance(client, library.cluster):
        return [client]
    library.look_again(client)
    nodes = library.primaries(client)
    for node in nodes:
        # One that is cut off from the others still believes that it has its slots.
        if not re.search(r"cluster_state\W+ok", str(node.execute_command("CLUSTER INFO"))):
            raise library.errors.ClusterDownError(
                f"{_address(node)}: CLUSTERDOWN The cluster is down"
            )
    return nodes


def _place(server: Any) -> Hashable:
    """The server, by what it says of its run, and the number of the database there."""
    try:
        return server.info("server")["run_id"], int(_options(server).get("db") or 0)
    except (library_of_client(server).errors.ResponseError, KeyError):
        # An ACL, or a Redis-like server that does not tell.
        return _address(server), int(_options(server).get("db") or 0)


def _sweep(client: Any, match: str, spared: str) -> int:
    """Delete what matches on one server, or on all of a cluster's."""
    library = library_of_client(client)
    # A script runs on one node of a cluster.
    if isinstance(client, library.client):
        try:
            return _sweep_there(client, match, spared)
        except library.errors.ResponseError:
            # An ACL, an old server, or a Redis-like one that refuses scripts of this kind. What
            # else may be wrong, a scan from here runs into too.
            pass
    scanned = _scan(client, match, spared.encode())
    return sum(_unlink(client, chunk) for chunk in chunked(scanned, CHUNK))


def _sweep_there(client: Any, match: str, spared: str) -> int:
    count, cursor = 0, b"0"
    while True:
        cursor, deleted = client.eval(_SWEEP, 0, cursor, match, STEP, spared)
        count += int(deleted)
        if int(cursor) == 0:
            return count


def _scan(client: Any, match: str, spared: bytes) -> Iterator[Any]:
    for server in _servers(client):
        for key in server.scan_iter(match=match, count=STEP):
            raw = key if isinstance(key, bytes) else str(key).encode()
            if not spared or not raw.startswith(spared):
                yield key


def _unlink(client: Any, keys: list[Any]) -> int:
    try:
        return int(client.unlink(*keys))
    except library_of_client(client).errors.ResponseError as exc:
        if not is_refused(exc):
            raise
        return int(client.delete(*keys))


def _address(client: Any) -> str:
    options = _options(client)
    if path := options.get("path"):
        return f"unix:{path}"
    if "host" not in options:
        return type(client).__name__
    return f"redis {options['host']}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _options(client: Any) -> dict[str, Any]:
    return getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})


def _literal(text: str) -> str:
    return _GLOB_SPECIAL.sub(r"\\\1", text)
