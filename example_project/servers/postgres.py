"""PostgreSQL servers for a demo, a test or a benchmark.

They know initdb, settings, pg_hba, TLS, start, stop and crash.

    from servers.postgres import Postgres, find_installations

    with Postgres(find_installations()[0], settings={"wal_sender_timeout": "2s"}) as postgres:
        postgres.create_database("shop")
        with postgres.connect("shop") as connection:  # psycopg, autocommit, over the Unix socket
            connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        postgres.restart("immediate")

`host`, `port`, `user`, `password` and `socket_dir` say where it is. Without a directory everything
lives in a temporary one and is removed by `stop()`; with one, the data stay and a second start
finds them.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from servers.base import DatabaseServer, Mode
from servers.cluster import (
    cluster_template,
    copy_tree,
    environment,
    initdb,
    memory_folder,
    reachable_directory,
    temporary_folders,
)
from servers.installations import PLUGINS, Installation, find_installations
from servers.process import (
    LOOPBACK,
    PortBusyError,
    ServerFailedError,
    ServerProcess,
    can_traverse,
    free_port,
    port_is_busy,
    server_account,
    tail,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = [
    "PLUGINS",
    "DatabaseServer",
    "Installation",
    "Postgres",
    "ServerFailedError",
    "find_installations",
    "open_server",
    "reachable_directory",
]

SIGNALS: dict[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

# synchronous_commit stays on: with it off the WAL, and so every nudge, waits for the WAL writer's
# next round.
SETTINGS: dict[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "30",
    "max_replication_slots": "30",
    "max_prepared_transactions": "10",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "jit": "off",
    "log_line_prefix": "%m [%p] %d ",
    "logging_collector": "off",
    "lc_messages": "C",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
SMALL = {"min_wal_size": "32MB", "max_wal_size": "256MB"}
"""A log that memory has room for."""

TRUST = (
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "local replication all trust",
    "host replication all 127.0.0.1/32 trust",
)


class Postgres(DatabaseServer):
    """A PostgreSQL from programs on this machine.

    directory: keeps the data between runs; None for a temporary one. port: 0 picks a free one.
    settings and hba (lines of pg_hba.conf) come in place of our defaults; the superuser always gets
    in over the Unix socket. tls: (certificate, key, CA for client certificates or None), copied
    into the data directory. durable: fsync, for data somebody wants to keep. in_memory: a temporary
    directory lies in memory where there is room, since a database is made many times faster there.
    """

    def __init__(
        self,
        installation: Installation,
        directory: Path | str | None = None,
        *,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        hba: Sequence[str] = TRUST,
        tls: tuple[Path, Path, Path | None] | None = None,
        durable: bool = False,
        in_memory: bool = False,
    ) -> None:
        self.installation = installation
        self.account = server_account()
        self.port = port
        self.settings = dict(settings or {})
        self.hba = list(hba)
        self.tls = tls
        self.durable = durable
        self.in_memory = in_memory and directory is None
        self._pick_port = port == 0
        self._keep = Path(directory) if directory is not None else None
        self._process: ServerProcess | None = None
        self.directory = Path()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise ServerFailedError(f"{self.installation} is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> Self:
        """Start and wait until it takes connections. Prepares the data directory the first time."""
        if self.running:
            return self
        if not self.directory.name:
            self._prepare()
        self._place_socket()
        self._write_configuration()
        for _attempt in range(5):
            if self._pick_port:
                self.port = free_port()
            elif port_is_busy(self.port):
                raise PortBusyError(
                    f"Port {self.port} for {self.installation} is in use by another process."
                    " Stop that one or choose another port."
                )
            if self._launch():
                self._pick_port = (
                    False  # from here on a restart comes back where its clients look for it
                )
                return self
        raise ServerFailedError(f"{self.installation} found no free port:\n{tail(self.log)}")

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it, and remove a temporary directory. Safe to call twice."""
        self._end(mode)
        for folder in self._temporary():
            shutil.rmtree(folder, ignore_errors=True)
        if self._keep is None:
            self.directory = Path()

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start again at the same place; `immediate` is a crash with recovery."""
        self._end(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL to the postmaster: its children notice and go.

        `start()` brings it back by recovery.
        """
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def pause(self) -> None:
        """Stop the postmaster: connections are accepted by the kernel and never answered.

        `resume()` ends it.
        """
        if self._process is not None:
            self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def set_hba(self, lines: Sequence[str]) -> None:
        """Other lines of pg_hba.conf, in force when this returns."""
        self.hba = list(lines)
        self._write_hba()
        self.reload()

    def reload(self) -> None:
        """Read the configuration again and wait until the postmaster has."""
        before = self.execute("SELECT pg_conf_load_time()")
        self.execute("SELECT pg_reload_conf()")
        wait_until(
            lambda: self.execute("SELECT pg_conf_load_time()") != before,
            "the configuration to load",
        )

    def _temporary(self) -> list[Path]:
        """The folders that go with the server."""
        if not self.directory.name:
            return []
        folders = [] if self._keep is not None else [self.directory]
        if self.socket_dir is not None and self.socket_dir != self.directory:
            folders.append(self.socket_dir)
        return folders

    def _end(self, mode: Mode) -> None:
        if self._process is not None:
            self._process.end(SIGNALS[mode])
            self._process = None

    def _prepare(self) -> None:
        if self._keep is None:
            self.directory = Path(
                tempfile.mkdtemp(
                    prefix=f"pgnudge-{self.name}-", dir=memory_folder() if self.in_memory else None
                )
            )
        else:
            self.directory = self._keep.absolute()
            self.directory.mkdir(parents=True, exist_ok=True)
        self._own(self.directory)
        if not can_traverse(self.directory, self.account):
            assert self.account is not None
            raise ServerFailedError(
                f"PostgreSQL runs as the user {self.account.name} here, which may not enter"
                f" {self.directory}. Choose a directory every user can reach"
                " (servers.postgres.reachable_directory does)."
            )
        if not (self.data / "PG_VERSION").exists():
            if self._keep is None:
                copy_tree(
                    cluster_template(self.installation, self.account), self.data, self.account
                )
            else:
                initdb(self.installation, self.data, self.account)
        major = (self.data / "PG_VERSION").read_text().strip()
        if major != str(self.installation.version[0]):
            raise ServerFailedError(
                f"{self.data} was made by PostgreSQL {major}, and"
                f" {self.installation} cannot read it. Remove the directory to begin anew."
            )

    def _place_socket(self) -> None:
        # A Unix socket's path ends at 103 bytes on some systems, at 107 on Linux.
        if len(os.fsencode(self.directory)) <= 80:
            self.socket_dir = self.directory
        elif self.socket_dir is None or not self.socket_dir.exists():
            self.socket_dir = Path(tempfile.mkdtemp(prefix="pgnudge-socket-", dir="/tmp"))
            self._own(self.socket_dir)

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _write(self, name: str, content: str | bytes) -> None:
        path = self.data / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)
        self._own(path)

    def _write_hba(self) -> None:
        lines = [f"local all {self.user} trust", *self.hba]
        self._write("pg_hba.conf", "\n".join(lines) + "\n")

    def _write_configuration(self) -> None:
        values: dict[str, object] = dict(SETTINGS)
        if not self.durable:
            values |= NOT_DURABLE
        if self.in_memory:
            values |= SMALL
        if self.installation.knows_plugin_list:
            values["output_plugin_libraries"] = ", ".join(self.installation.plugins)
        if self.installation.version[0] >= 18:
            values["io_method"] = "sync"  # three processes fewer
        values |= {"listen_addresses": LOOPBACK, "unix_socket_directories": self.socket_dir}
        if self.tls is not None:
            certificate, key, authority = self.tls
            self._write("server.crt", certificate.read_bytes())
            self._write("server.key", key.read_bytes())
            values |= {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
            if authority is not None:
                self._write("clients.crt", authority.read_bytes())
                values["ssl_ca_file"] = "clients.crt"
        values |= self.settings
        lines = [
            f"{key} = '{str(value).replace(chr(39), chr(39) * 2)}'" for key, value in values.items()
        ]
        self._write("postgresql.conf", "\n".join(lines) + "\n")
        self._write_hba()

    def _launch(self) -> bool:
        """One try. False: the port was taken between picking and binding it."""
        with self.log.open("ab"):
            pass
        began = self.log.stat().st_size
        self._process = process = ServerProcess(
            [
                self.installation.program("postgres", self.account),
                "-D",
                self.data,
                "-p",
                str(self.port),
            ],
            log=self.log,
            cwd=self.directory,
            stop_signal=signal.SIGQUIT if self._keep is None else signal.SIGINT,
            account=self.account,
            remove=[*temporary_folders, *self._temporary()],
            env=environment(),
        )

        def settled() -> bool:
            return not process.alive or self._is_ready(process.pid)

        try:
            wait_until(settled, f"{self.installation} to take connections", timeout=60)
        except ServerFailedError as error:
            self._end("immediate")
            raise ServerFailedError(f"{error} Its log ends:\n{tail(self.log)}") from None
        if process.alive:
            return True
        process.end()
        self._process = None
        with self.log.open("rb") as log:
            log.seek(began)
            said = log.read().decode("utf-8", "replace")
        if self._pick_port and "Address already in use" in said:
            return False
        if "pre-existing shared memory block" in said:
            # The children of a killed postmaster are still on their way out.
            return self._launch()
        raise ServerFailedError(
            f"{self.installation} did not start. Its log ends:\n{tail(self.log)}"
        )

    def _is_ready(self, pid: int) -> bool:
        """postmaster.pid holds the process id first and the status eighth, as pg_ctl reads it."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def open_server(installation: Installation, **options: Any) -> DatabaseServer:
    """A server, not yet started, for an installation of any kind; options as of Postgres where they
    make sense.
    """
    if installation.image is not None:
        # Only here: testcontainers is needed for nothing else.
        from servers.docker import DockerPostgres  # noqa: PLC0415

        return DockerPostgres(installation, **options)
    return Postgres(installation, **options)
