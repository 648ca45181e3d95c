"""A Redis Cluster on the loopback interface.

with RedisCluster(find_redis(), replicas=3) as cluster:
    cluster.url                       # of any node; clients find the others
    cluster.home("{tag}:key")         # the primary that has a key
    cluster.home("{tag}:key").kill()  # a replica takes over
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any, Self

from redis import Redis as Client
from redis.crc import key_slot
from redis.exceptions import RedisError

from servers.process import LOOPBACK, ServerFailedError, port_is_busy, wait_until
from servers.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.redis import RedisProgram

__all__ = ["RedisCluster"]

SLOTS = 16384
BUS = 10_000
"""What a node adds to its port for the other nodes."""

NODE_TIMEOUT = 1000
"""Milliseconds after which a node is taken for dead."""


class RedisCluster:
    """``primaries`` nodes that share the slots, and ``replicas`` of them, in turn."""

    def __init__(
        self, program: RedisProgram | None, *, primaries: int = 3, replicas: int = 0
    ) -> None:
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT,
            "cluster-replica-validity-factor": 0,
        }
        self._count = primaries
        self.nodes = [
            Redis(program, port=_port(), settings=settings) for _ in range(primaries + replicas)
        ]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def start(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def home(self, key: str) -> Redis:
        """The primary that has a key, as the nodes that live say."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self._ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise ServerFailedError(f"No node has the slot {slot}.")

    def add(self) -> Redis:
        """One more primary, without a slot."""
        node = Redis(self.nodes[0].program, port=_port(), settings=self.nodes[0].settings).start()
        self.nodes.append(node)
        with _client(node) as client:
            client.execute_command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port)
        wait_until(
            lambda: all(_known(each) == len(self.nodes) for each in self.nodes), "a node to be met"
        )
        wait_until(lambda: _state(node) == "ok", "the node to know the others")
        return node

    def move(
        self,
        key: str,
        target: Redis | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        """Give the slot of a key to another primary, its keys in two parts; ``between`` is called
        when one part has been moved.
        """
        slot, source = key_slot(key.encode()), self.home(key)
        target = target or next(node for node in self._primaries() if node is not source)
        with _client(source) as here, _client(target) as there:
            ids = [each.execute_command("CLUSTER", "MYID").decode() for each in (here, there)]
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            keys: Any = here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10_000)
            half = len(keys) // 2
            _migrate(here, target, keys[:half])
            between()
            _migrate(here, target, keys[half:])
            there.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            with contextlib.suppress(RedisError):  # without a slot it becomes a replica
                here.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        wait_until(
            lambda: all(_home(node, slot) == target.port for node in self.nodes if node.running),
            "every node to know who has the slot",
        )

    def _primaries(self) -> list[Redis]:
        ports = {port for _, _, (_, port, *_), *_ in self._ask("CLUSTER", "SLOTS")}
        return [node for node in self.nodes if node.port in ports]

    def empty(self) -> None:
        """Delete everything."""
        for node in self.nodes:
            with contextlib.suppress(RedisError), _client(node) as client:
                client.execute_command("FLUSHALL")  # a replica refuses

    def wait_until_whole(self) -> None:
        """Return when every node that lives says that each slot has a primary that lives."""

        def is_whole() -> bool:
            states = [_state(node) for node in self.nodes if node.running]
            ports = {node.port for node in self.nodes if node.running}
            slots = self._ask("CLUSTER", "SLOTS")
            served = sum(
                last - first + 1 for first, last, (_, port, *_), *_ in slots if port in ports
            )
            return set(states) == {"ok"} and served == SLOTS

        wait_until(is_whole, "a whole Redis Cluster")

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            with _client(node) as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port)
                if number < self._count:
                    bounds = [SLOTS * each // self._count for each in (number, number + 1)]
                    client.execute_command("CLUSTER", "ADDSLOTS", *range(*bounds))
        wait_until(
            lambda: all(_known(node) == len(self.nodes) for node in self.nodes), "the nodes to meet"
        )
        for number, node in enumerate(self.nodes[self._count :]):
            with _client(self.nodes[number % self._count]) as client:
                primary = client.execute_command("CLUSTER", "MYID").decode()
            with _client(node) as client:
                client.execute_command("CLUSTER", "REPLICATE", primary)
        for node in self.nodes[self._count :]:
            wait_until(lambda node=node: _is_in_step(node), "a replica")  # type: ignore[misc]
        self.wait_until_whole()

    def _ask(self, *words: str) -> Any:
        for node in self.nodes:
            if node.running:
                with contextlib.suppress(RedisError), _client(node, patience=1) as client:
                    return client.execute_command(*words)
        raise ServerFailedError("No node of the Redis Cluster answers.")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _port() -> int:
    """Below those that clients are given: one of them may take it while a node is away."""
    while True:
        port = random.randint(12_000, 20_000)
        if not port_is_busy(port) and not port_is_busy(port + BUS):
            return port


def _client(node: Redis, patience: float = 10) -> Client:
    return Client(host=LOOPBACK, port=node.port, socket_timeout=patience)


def _home(node: Redis, slot: int) -> int | None:
    with _client(node) as client:
        found: Any = client.execute_command("CLUSTER", "SLOTS")
    ports = (port for first, last, (_, port, *_), *_ in found if first <= slot <= last)
    return next(ports, None)


def _migrate(source: Any, target: Redis, keys: list[bytes]) -> None:
    if keys:
        words = LOOPBACK, target.port, "", 0, 10_000, "KEYS"
        source.execute_command("MIGRATE", *words, *keys)


def _info(node: Redis) -> dict[str, str]:
    with _client(node) as client:
        found: Any = client.execute_command("CLUSTER", "INFO")
    text = found if isinstance(found, dict) else dict(_pairs(found))
    return {str(name): str(value) for name, value in text.items()}


def _pairs(found: Any) -> list[list[str]]:
    text = found.decode() if isinstance(found, bytes) else str(found)
    return [line.split(":", 1) for line in text.splitlines() if ":" in line]


def _state(node: Redis) -> str:
    return _info(node)["cluster_state"]


def _known(node: Redis) -> int:
    return int(_info(node)["cluster_known_nodes"])


def _is_in_step(node: Redis) -> bool:
    with _client(node) as client:
        info: Any = client.info("replication")
    return bool(info["role"] == "slave" and info["master_link_status"] == "up")
