"""PostgreSQL and Redis with a site's database, and the processes of one contender at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from servers.postgres import Postgres
from servers.process import LOOPBACK, ServerFailedError, ServerProcess, free_port, tail, wait_until
from servers.redis import Redis, find_redis

from benchmarks import ROOT
from benchmarks.local import child_environment, choose_installation, start_runnudge
from benchmarks.served.contenders import NO_CACHE, Contender
from benchmarks.served.load import get
from benchmarks.speed.child import Child

__all__ = ["PAST_SITE", "THROUGH_SITE", "WORKERS", "Running", "Stage"]

WORKERS: Final = 2
THROUGH_SITE: Final = "through"
PAST_SITE: Final = "past"
"""How is written."""
BUILT: Final = "built"
DATABASE: Final = "served"
PATIENCE: Final = 3600.0
"""Seconds to build a site in; a thousand pages take one or two minutes."""


@dataclass(frozen=True)
class Running:
    """A contender's processes."""

    port: int
    environment: dict[str, str]
    """For further processes of the site."""
    site: ServerProcess
    pids: list[int]
    """Of the site, its servers and the daemon."""

    def said(self) -> str:
        """The site's log."""
        return self.site.log.read_text("utf-8", "replace")


class Stage:
    """The servers, and a built site of ``size`` pages or products; a context manager."""

    def __init__(self, site: str, size: int, *, server: str | None, lease: float) -> None:
        self.site = site
        self.postgres = Postgres(choose_installation(server))
        self.redis = Redis(find_redis(given=False))
        self._size = size
        self._lease = lease

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="pgnudge-served-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.enter_context(self.postgres)
            stack.enter_context(self.redis)
            self.postgres.create_database(BUILT)
            environment = self._environment(NO_CACHE, BUILT)
            job: dict[str, Any] = {"size": self._size}
            with Child("benchmarks.served.builder", environment=environment, **job) as builder:
                built = builder.hear(PATIENCE)
            if built is None:
                raise ServerFailedError(f"{self.site} was not built in {PATIENCE:g} s.")
            self.paths: list[str] = built["paths"]
            self.items: dict[str, list[int]] = built["items"]
            self.tables: list[str] = built["tables"]
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @contextlib.contextmanager
    def run(self, contender: Contender) -> Iterator[Running]:
        """The site with that cache, on a fresh copy of the database and an empty Redis."""
        with contextlib.ExitStack() as stack:
            self.postgres.create_database(DATABASE, template=BUILT)
            stack.callback(self.postgres.drop_database, DATABASE)
            self.redis.command("FLUSHALL")
            environment = self._environment(contender.name, DATABASE)
            daemon = None
            if contender.has_daemon:
                daemon = start_runnudge(environment, self.folder / "runnudge.log")
                stack.callback(_end, daemon)
                _wait(daemon, lambda: "Connected to PostgreSQL" in daemon.log.read_text())
            port = free_port()
            site = self._gunicorn(environment, port)
            stack.callback(_end, site)
            _wait(site, lambda: _answers(port, self.paths[0]))
            pids = [site.pid, self.postgres.pid, self.redis.pid]
            yield Running(port, environment, site, [*pids, daemon.pid] if daemon else pids)

    def _gunicorn(self, environment: dict[str, str], port: int) -> ServerProcess:
        command = [
            sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--graceful-timeout", "3",
            "--bind", f"{LOOPBACK}:{port}", "--log-level", "warning", "--timeout", "120",
            "benchmarks.served.wsgi:application",
        ]  # fmt: skip
        # It keeps a socket for its control in the home directory.
        return ServerProcess(
            command, log=self.folder / "site.log", cwd=ROOT, stop_signal=signal.SIGTERM,
            env=environment | {"HOME": str(self.folder)},
        )  # fmt: skip

    def _environment(self, contender: str, database: str) -> dict[str, str]:
        site = {
            "site": self.site, "contender": contender, "lease": self._lease,
            "database": database, "user": self.postgres.user, "host": self.postgres.host,
            "port": self.postgres.port, "redis": self.redis.url,
            "media": str(self.folder / "media"),
        }  # fmt: skip
        return child_environment(
            DJANGO_SETTINGS_MODULE=f"benchmarks.served.{self.site}.settings",
            PGNUDGE_SERVED=json.dumps(site),
        )


def _answers(port: int, path: str) -> bool:
    try:
        return get(port, path)[0] == 200
    except OSError:
        return False


def _wait(process: ServerProcess, is_there: Any) -> None:
    wait_until(lambda: is_there() or not process.alive, process.log.stem, timeout=60, interval=0.1)
    if not process.alive:
        raise ServerFailedError(f"{process.log.stem} has ended:\n{tail(process.log)}")


def _end(process: ServerProcess) -> None:
    """Its log goes, too: the next contender's begins empty."""
    process.end()
    process.log.unlink()
