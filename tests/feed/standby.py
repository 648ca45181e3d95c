"""A standby for tests: a copy of a primary that replays its log, and may be promoted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.process import free_port

from tests.fix_servers import installations


class Standby:
    """Of a `servers.postgres.Postgres`, with its user and its socket directory."""

    def __init__(self, primary: Any) -> None:
        self.primary = primary
        self.data = Path(f"{primary.data}-standby")
        self.port = free_port()
        self._user = os.stat(primary.data)

    def _run(self, program: str, *arguments: str) -> None:
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = {"user": self._user.st_uid, "group": self._user.st_gid, "extra_groups": []}
        command = [str(self.primary.installation.bindir / program), *arguments]
        with open(os.devnull, "w") as quiet:
            subprocess.run(command, check=True, cwd="/", stdout=quiet, stderr=quiet, **account)

    def _backup_program(self) -> str:
        """The server's own, or one of a later version: not every package brings it."""
        own = self.primary.installation
        later = [each for each in installations() if each.version >= own.version]
        for each in (own, *later):
            if each.bindir is not None and (each.bindir / "pg_basebackup").exists():
                return str(each.bindir / "pg_basebackup")
        pytest.skip(f"no pg_basebackup here that takes one of {own.name}")

    def start(self) -> None:
        source = ["-h", self.primary.host, "-p", str(self.primary.port), "-U", self.primary.user]
        self._run(
            self._backup_program(),
            *source,
            "-D",
            str(self.data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        options = f"-p {self.port} -k {self.primary.socket_dir} -c hot_standby_feedback=on"
        log = f"{self.data}.log"
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", log, "-o", options, "start")

    def promote(self) -> None:
        """Make it a primary; returns when it is one."""
        self._run("pg_ctl", "-w", "-D", str(self.data), "promote")

    def stop(self) -> None:
        if self.data.exists():
            self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
        shutil.rmtree(self.data, ignore_errors=True)

    def rows(self, sql: str, database: str = "app") -> list[tuple[Any, ...]]:
        """One statement on a connection of its own; its rows, if it has any."""
        where = {"host": self.primary.host, "port": self.port, "user": self.primary.user}
        with psycopg.connect(dbname=database, autocommit=True, **where) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []
