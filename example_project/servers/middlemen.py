"""What sites put between themselves and PostgreSQL: PgBouncer, HAProxy.

with PgBouncer(postgres) as pooler:
    pooler.port                       # on 127.0.0.1
"""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from servers.process import (
    LOOPBACK,
    ServerFailedError,
    ServerProcess,
    free_port,
    server_account,
    tail,
    wait_until,
)

if TYPE_CHECKING:
    from servers.base import DatabaseServer

__all__ = ["HAProxy", "Middleman", "PgBouncer"]


class Middleman:
    """A process that passes connections on to one PostgreSQL."""

    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server
        self.port = free_port()
        self._process: ServerProcess | None = None

    @classmethod
    def installed(cls) -> str | None:
        """The path of the program, if this machine has it."""
        return shutil.which(cls.program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

    def start(self) -> Self:
        program = self.installed()
        if program is None:
            raise ServerFailedError(f"There is no {self.program} here: install it.")
        account = server_account()
        folder = Path(tempfile.mkdtemp(prefix=f"pgnudge-{self.program}-"))
        config = folder / "config"
        config.write_text(self._config(folder))
        if account is not None:
            for path in (folder, config):
                shutil.chown(path, account.uid, account.gid)
        self._process = ServerProcess(
            [program, *self._arguments(config)],
            log=folder / "log",
            cwd=folder,
            stop_signal=self.stop_signal,
            account=account,
            remove=[folder],
        )
        log = folder / "log"
        try:
            wait_until(self._answers, f"{self.program}; its log ends with\n{tail(log)}")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()
            for folder in process.remove:
                shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def _config(self, folder: Path) -> str:
        raise NotImplementedError

    def _arguments(self, config: Path) -> list[str]:
        raise NotImplementedError


class PgBouncer(Middleman):
    """In transaction mode, with two connections to the server; ``more`` are lines of settings."""

    program = "pgbouncer"
    stop_signal = signal.SIGINT

    def __init__(self, server: DatabaseServer, *more: str) -> None:
        super().__init__(server)
        self._more = more

    def _config(self, folder: Path) -> str:
        users = folder / "users"
        users.write_text('"postgres" ""\n')
        account = server_account()
        if account is not None:
            shutil.chown(users, account.uid, account.gid)
        return "\n".join([
            "[databases]",
            f"* = host={LOOPBACK} port={self.server.port} user=postgres",
            "[pgbouncer]",
            f"listen_addr = {LOOPBACK}",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = trust",
            f"auth_file = {users}",
            "pool_mode = transaction",
            "default_pool_size = 2",
            *self._more,
            "",
        ])  # fmt: skip

    def _arguments(self, config: Path) -> list[str]:
        return [str(config)]


class HAProxy(Middleman):
    """As TCP, and hangs up on a connection on which nothing is said for ``idle`` milliseconds."""

    program = "haproxy"

    def __init__(self, server: DatabaseServer, *, idle: int) -> None:
        super().__init__(server)
        self._idle = idle

    def _config(self, folder: Path) -> str:
        return "\n".join([
            "defaults",
            "  mode tcp",
            "  timeout connect 5s",
            f"  timeout client {self._idle}ms",
            f"  timeout server {self._idle}ms",
            "listen postgres",
            f"  bind {LOOPBACK}:{self.port}",
            f"  server one {LOOPBACK}:{self.server.port}",
            "",
        ])  # fmt: skip

    def _arguments(self, config: Path) -> list[str]:
        return ["-db", "-f", str(config)]
