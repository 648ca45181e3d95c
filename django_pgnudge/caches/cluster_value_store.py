"""Nudged values in a Redis Cluster: one slot has all that proves them, each value has its own.

The lease, the mark and the tokens of a database have one hash tag (`reader.keys.Names`), so one
primary answers for all of them at one moment, as a single Redis does, and forgets them together or
not at all. A value lies wherever its key leads. It names the tokens it stands on, so it may be read
at another moment than they are: it is judged by what its tokens were then.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django_pgnudge.caches.redis_value_store import TIME, RedisValueStore, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from django_pgnudge.caches.redis_store import RedisStore
    from django_pgnudge.caches.value_store import Answer, Question

_ONE_SLOT: Final = "{tag}:one", "{tag}:other"

_PAUSE: Final = 0.5
"""Seconds between two looks at which node has which slot."""


class ClusterValueStore(RedisValueStore):
    """Nudged values on the primaries of a Redis Cluster."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store)
        (self._cluster,) = self._redis.clients()
        self._library = self._redis.library

    def refusal(self) -> str | None:
        if len({self._cluster.keyslot(self._key(name)) for name in _ONE_SLOT}) > 1:
            return (
                "its KEY_PREFIX has braces with nothing inside, so the keys of one value are spread"
                " over the nodes of the cluster: choose another prefix"
            )
        return None

    def make(self, question: Question, tokens: Mapping[str, tuple[str, int | None]]) -> Answer:
        return self._ask_after(self._making(tokens), question)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().drop([key])

    # Inside.

    def _ask(self, question: Question) -> Answer:
        return self._ask_after([], question)

    def _may_ask_again(self, error: Exception) -> bool:
        """Another node may have its keys by now."""
        return self._library.is_moved(error)

    def _ask_after(self, commands: list[bytes], question: Question) -> Answer:
        """Send commands to where the tokens are, then the question; two nodes work at once."""
        proofs, entry = self._packed(question)
        commands, began = [*commands, proofs], time.monotonic()
        home, there = (self._node(key).name for key in (question.lease, question.entry))
        with ExitStack() as stack:
            # In one order, so that readers with few connections do not wait for each other.
            links = {
                name: stack.enter_context(self._connected(key))
                for name, key in sorted({home: question.lease, there: question.entry}.items())
            }
            # The value's node first: where it is away, nothing is made.
            self._send(links[there], [entry])
            self._send(links[home], commands)
            value = self._read_from(links[there])
            *_, found, now = (self._read_from(links[home]) for _ in range(len(commands) + 1))
        answer = self._answered(question, [found[0], value, *found[1:]], now)
        # One node may have kept the other's answer waiting: so much more of the lease is over.
        return answer._replace(now=answer.now + time.monotonic() - began)

    def _pack(self, question: Question) -> list[bytes]:
        lease, entry, *tokens = self._redis.stored(question.keys(), None)
        return [pack("MGET", lease, *tokens) + TIME, pack("GET", entry)]

    def _node(self, key: str) -> Any:
        slot = self._cluster.keyslot(self._key(key))
        return self._cluster.nodes_manager.get_node_from_slot(slot)

    def _client(self, key: str) -> Any:
        return self._library.node(self._cluster, self._node(key))

    def _exchange(self, key: str, data: list[bytes], replies: int) -> list[Any]:
        try:
            return self._exchange_once(key, data, replies)
        except self._library.errors.MovedError:
            # The node has refused it: so it has not been done.
            return self._exchange_once(key, data, replies)

    def _exchange_once(self, key: str, data: list[bytes], replies: int) -> list[Any]:
        with self._connected(key) as link:
            self._send(link, data)
            return [self._read_from(link) for _ in range(replies)]

    @contextmanager
    def _connected(self, key: str) -> Iterator[_Link]:
        """To the node that has ``key``; the block reads all answers that it asks for."""
        name = ""
        try:
            node = self._node(key)
            name = node.name
            pool = self._library.node(self._cluster, node).connection_pool
            connection = self._connect(pool)
        except Exception as error:
            self._look_after(error, name)
            raise
        try:
            yield _Link(name, connection)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _send(self, link: _Link, data: list[bytes]) -> None:
        try:
            link.connection.send_packed_command(data)
        except Exception as error:
            self._look_after(error, link.node)
            raise

    def _read_from(self, link: _Link) -> Any:
        try:
            return link.connection.read_response(disable_decoding=True)
        except Exception as error:
            self._look_after(error, link.node)
            raise

    def _look_after(self, error: Exception, failed: str) -> None:
        """Follow a slot that has moved; after another failure ask the cluster which node has which
        slots, one thread at a time, and not where that was done a moment ago."""
        if isinstance(error, self._library.errors.MovedError):
            self._library.follow(self._cluster, error)
        elif self._library.is_moved(error) and _looking.acquire(blocking=False):
            try:
                if time.monotonic() - _looked_at.get(self._cluster, 0.0) > _PAUSE:
                    with suppress(Exception):  # what failed first is what is told
                        self._library.look_again(self._cluster, failed)
                    _looked_at[self._cluster] = time.monotonic()
            finally:
                _looking.release()


_looking: Final = threading.Lock()
_looked_at: Final[weakref.WeakKeyDictionary[Any, float]] = weakref.WeakKeyDictionary()
"""By client, which threads may share: when it was last asked."""


class _Link(NamedTuple):
    """A connection to the node of that name."""

    node: str
    connection: Any
