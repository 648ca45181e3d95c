"""Nudged values in a Redis Cluster: one slot has all that proves them, each value has its own.

The lease, the mark and the tokens of a database have one hash tag (`fresh.keys.Names`), so one
primary answers for all of them at one moment, as a single Redis does, and forgets them together or
not at all. A value lies wherever its key leads. It names the tokens it stands on, so it may be read
at another moment than they are: it is judged by what its tokens were then.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.caches.redis_values import TIME, RedisValues, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from django_pgnudge.caches.redis import RedisStore
    from django_pgnudge.caches.values import Answer, Question

__all__ = ["ClusterValues"]

_ONE_SLOT: Final = "{tag}:one", "{tag}:other"

_PAUSE: Final = 0.5
"""Seconds between two looks at which node has which slot."""


class ClusterValues(RedisValues):
    """Nudged values on the primaries of a Redis Cluster."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store)
        (self._cluster,) = self._redis.clients()
        self._moved = self._redis.library.moved
        self._looked_at = 0.0

    def refusal(self) -> str | None:
        if len({self._cluster.keyslot(self._key(name)) for name in _ONE_SLOT}) > 1:
            return (
                "its KEY_PREFIX has braces with nothing inside, so the keys of one value are spread"
                " over the nodes of the cluster: choose another prefix"
            )
        return None

    def ask(self, question: Question) -> Answer:
        try:
            return self._ask(question)
        except self._slow:
            raise
        except self._moved:
            # Another node may have its keys by now; a question may be put twice.
            return self._ask(question)

    def _ask(self, question: Question) -> Answer:
        return self._ask_after([], question)

    def make(self, question: Question, tokens: Mapping[str, tuple[str, int | None]]) -> Answer:
        return self._ask_after(self._making(tokens), question)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().drop([key])

    # Inside.

    def _ask_after(self, commands: list[bytes], question: Question) -> Answer:
        """Send commands to where the tokens are, then the question; both nodes work at once."""
        proofs, entry = self._packed(question)
        with (
            self._sent(question.lease, [*commands, proofs]) as home,
            self._sent(question.entry, [entry]) as there,
        ):
            *_, found, now = (_read(home) for _ in range(len(commands) + 2))
            return self._answered(question, [found[0], _read(there), *found[1:]], now)

    def _pack(self, question: Question) -> list[bytes]:
        lease, entry, *tokens = self._redis.stored(question.keys(), None)
        return [pack("MGET", lease, *tokens) + TIME, pack("GET", entry)]

    def _client(self, key: str) -> Any:
        node = self._cluster.get_node_from_key(self._key(key))
        return self._redis.library.node(self._cluster, node)

    def _pool(self, key: str) -> Any:
        return self._client(key).connection_pool

    def _exchange(self, key: str, data: list[bytes], replies: int) -> list[Any]:
        with self._sent(key, data) as connection:
            return [_read(connection) for _ in range(replies)]

    @contextmanager
    def _sent(self, key: str, data: list[bytes]) -> Iterator[Any]:
        """A connection on which this was sent, and whose answers the block reads all."""
        try:
            pool = self._pool(key)
            connection = self._connect(pool)
            try:
                connection.send_packed_command(data)
                yield connection
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)
        except Exception as error:
            if time.monotonic() - self._looked_at > _PAUSE:
                self._looked_at = time.monotonic()
                self._redis.library.look_again(self._cluster, error)
            raise


def _read(connection: Any) -> Any:
    return connection.read_response(disable_decoding=True)
