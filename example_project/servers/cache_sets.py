"""Caches of more than one server, and memcached, on the loopback interface.

with Sentinels(find_redis()) as redises:
    redises.addresses                 # of the sentinels, which know the primary as "pgnudge"
    redises.fail_over()               # the primary dies, and a replica takes over
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from servers.process import (
    LOOPBACK,
    ServerFailedError,
    ServerProcess,
    free_port,
    port_is_busy,
    wait_until,
)
from servers.redis import NO_REDIS, Redis

if TYPE_CHECKING:
    from servers.redis import RedisProgram

__all__ = ["PRIMARY", "Memcached", "Replicated", "Sentinels"]

PRIMARY = "pgnudge"
"""The primary's name among sentinels."""

SETTINGS = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}


class Replicated:
    """A primary with replicas, each at a port of its own."""

    def __init__(self, program: RedisProgram | None, replicas: int = 2) -> None:
        self.primary = Redis(program, settings=SETTINGS)
        self.replicas = [Redis(program, settings=SETTINGS) for _ in range(replicas)]

    @property
    def urls(self) -> list[str]:
        """The primary's first, as Django's LOCATION lists them."""
        return [self.primary.url, *(each.url for each in self.replicas)]

    def start(self) -> Self:
        try:
            for each in (self.primary, *self.replicas):
                each.start()
            for each in self.replicas:
                each.command("REPLICAOF", LOOPBACK, str(self.primary.port))
            self.primary.command("SET", "pgnudge-probe", "1")
            for each in self.replicas:
                wait_until(lambda each=each: _has_probe(each), "a replica")  # type: ignore[misc]
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for each in (self.primary, *self.replicas):
            each.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class Sentinels(Replicated):
    """The same, watched by three sentinels."""

    def __init__(self, program: RedisProgram | None, replicas: int = 2) -> None:
        super().__init__(program, replicas)
        if program is None or program.program is None:
            raise ServerFailedError(NO_REDIS)
        self._program = program.program
        self._folder = Path()
        self._processes: list[ServerProcess] = []
        self.ports: list[int] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(LOOPBACK, port) for port in self.ports]

    def start(self) -> Self:
        super().start()
        self._folder = Path(tempfile.mkdtemp(prefix="pgnudge-sentinel-"))
        try:
            for _ in range(3):
                self._watch()
            for port in self.ports:
                wait_until(
                    lambda port=port: self._sees_all(port),  # type: ignore[misc]
                    "the sentinels to meet",
                )
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for process in self._processes:
            process.end()
        self._processes, self.ports = [], []
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)
        super().stop()

    def fail_over(self) -> None:
        """Kill the primary, and return when a replica is one."""
        before = self.primary.port
        self.primary.kill()
        wait_until(lambda: self._primary() not in (before, None), "a failover", timeout=60)

    def _watch(self) -> None:
        port = free_port()
        config = self._folder / f"{port}.conf"
        config.write_text(
            "\n".join([
                f"port {port}", f"bind {LOOPBACK}", f"dir {self._folder}",
                f"sentinel monitor {PRIMARY} {LOOPBACK} {self.primary.port} 2",
                f"sentinel down-after-milliseconds {PRIMARY} 1000",
                f"sentinel failover-timeout {PRIMARY} 5000", "",
            ])
        )  # fmt: skip
        self._processes.append(
            ServerProcess(
                [self._program, config, "--sentinel"],
                log=self._folder / f"{port}.log",
                cwd=self._folder,
                stop_signal=signal.SIGTERM,
            )
        )
        self.ports.append(port)
        wait_until(lambda: port_is_busy(port), "a sentinel")

    def _sees_all(self, port: int) -> bool:
        with contextlib.suppress(Exception):
            state = self._client(port).sentinel_master(PRIMARY)
            replicas = len(self.replicas)
            return bool(state["num-slaves"] == replicas and state["num-other-sentinels"] == 2)
        return False

    def _primary(self) -> int | None:
        """The primary's port, as every sentinel has it by now."""
        ports = set()
        for port in self.ports:
            with contextlib.suppress(Exception):
                ports.add(self._client(port).sentinel_get_master_addr_by_name(PRIMARY)[1])
        return ports.pop() if len(ports) == 1 else None

    def _client(self, port: int) -> Any:
        from redis import Redis as Client  # noqa: PLC0415 - as servers.redis imports it

        return Client(host=LOOPBACK, port=port, socket_timeout=5, single_connection_client=True)


class Memcached:
    """One memcached."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._process: ServerProcess | None = None
        self._folder = Path()

    @staticmethod
    def installed() -> str | None:
        """The path of the program, if this machine has it."""
        return shutil.which("memcached")

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        program = self.installed()
        if program is None:
            raise ServerFailedError("There is no memcached here: install it.")
        self._folder = Path(tempfile.mkdtemp(prefix="pgnudge-memcached-"))
        self._process = ServerProcess(
            [program, "-u", "nobody", "-l", LOOPBACK, "-p", str(self.port)],
            log=self._folder / "log",
            cwd=self._folder,
            stop_signal=signal.SIGTERM,
            remove=[self._folder],
        )
        wait_until(lambda: port_is_busy(self.port), "memcached")
        return self

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _has_probe(replica: Redis) -> bool:
    return replica.command("EXISTS", "pgnudge-probe") == ":1"
