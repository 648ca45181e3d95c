"""What a run stands on: PostgreSQL, Redis, a proxy to each, and runnudge, which goes through them.

Writers and readers go to the servers directly, but to a Redis with a replica through a proxy too,
which leads to whichever is the primary. Everything is a
child that a guard process stops if the benchmark is killed.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from servers.postgres import Postgres
from servers.process import LOOPBACK, ServerProcess, tail
from servers.proxy import Proxy
from servers.redis import Redis

from benchmarks import ROOT
from benchmarks.consistency.pair import Pair, redis_program
from benchmarks.local import child_environment, choose_installation

if TYPE_CHECKING:
    from benchmarks.consistency.options import Options

DATABASE: Final = "consistency"
OTHER: Final = "consistency_other"
PUBLICATION: Final = "consistency"

# Those that want to wait for the standby that does not exist say so; everybody else must not.
SETTINGS: Final = {"synchronous_standby_names": "nobody", "synchronous_commit": "local"}


class Stack:
    """The servers, proxies and the daemon of one run, in a folder of their own."""

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self.options = options
        self.folder = folder
        self.say = say
        self.installation = choose_installation(options.server)
        self.postgres = Postgres(self.installation, settings=SETTINGS)
        program = redis_program(options.redis)
        self.pair = Pair(program) if options.replica else None
        self._redis = Redis(program) if self.pair is None else self.pair.primary
        self.slowness = folder / "slowness"
        self.unexpected_exits: list[str] = []
        self._daemon: ServerProcess | None = None
        self._daemons = 0
        self._lock = threading.Lock()
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.postgres)
            stack.enter_context(self._redis if self.pair is None else self.pair.running())
            self.postgres_link = stack.enter_context(Proxy(self.postgres.port))
            self.redis_link = stack.enter_context(Proxy(self.redis.port))
            self.site_link = stack.enter_context(Proxy(self.redis.port))
            if self.pair is not None:
                self.pair.links = [self.redis_link, self.site_link]
            stack.callback(self.kill_daemon)
            self.postgres.create_database(DATABASE)
            self.postgres.create_database(OTHER)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def redis(self) -> Redis:
        """The primary, if there are two."""
        return self._redis if self.pair is None else self.pair.primary

    @property
    def plugin(self) -> str:
        if self.options.plugin == "auto" and self.installation.plugins == ("pgoutput",):
            return "pgoutput"
        return self.options.plugin

    @property
    def publication(self) -> str | None:
        return PUBLICATION if self.plugin == "pgoutput" else None

    @property
    def redis_version(self) -> str:
        """With where the program is from."""
        return f"{self.redis.program.version} ({self.redis.program.source})"

    def environment(self, *, daemon: bool = False) -> dict[str, str]:
        """For a process of the site; the daemon's leads through the proxies."""
        direct = self.redis if self.pair is None else self.site_link
        redis = self.redis_link.port if daemon else direct.port
        nudged = None if self.options.shared_cache else f"redis://{LOOPBACK}:{redis}/1"
        site: dict[str, Any] = {
            "database": DATABASE,
            "user": self.postgres.user,
            "host": LOOPBACK,
            "port": self.postgres_link.port if daemon else self.postgres.port,
            "redis": f"redis://{LOOPBACK}:{redis}/0",
            "nudged_redis": nudged,
            "second_redis": f"redis://{LOOPBACK}:{redis}/2",
            "other": OTHER,
            "backend": self.options.cache,
            "files": str(self.folder / "cache") if self.options.in_files else "",
            "plugin": self.plugin,
            "publication": self.publication,
            "feed": {
                "liveness_timeout": self.options.liveness,
                "status_interval": self.options.liveness / 3,
                "connect_timeout": 5.0,
            },
            "again": self.options.again,
            "lease": self.options.lease,
            "broken": self.options.broken,
            "slowness": str(self.slowness) if daemon else "",
        }
        return child_environment(
            DJANGO_SETTINGS_MODULE="benchmarks.consistency.site.settings",
            PGNUDGE_CONSISTENCY=json.dumps(site),
        )

    def python(self, *arguments: str, log: str, daemon: bool = False) -> ServerProcess:
        """A Python process of the site."""
        return ServerProcess(
            [sys.executable, *arguments],
            log=self.folder / log,
            cwd=ROOT,
            stop_signal=signal.SIGTERM,
            # Only if we are killed: otherwise `run` does it.
            remove=[] if self.options.keep else [self.folder],
            env=self.environment(daemon=daemon),
        )

    # The daemon -------------------------------------------------------------------------------

    @property
    def daemon_log(self) -> Path:
        return self.folder / "runnudge.log"

    def start_daemon(self) -> None:
        with self._lock:
            if self._daemon is None:
                self._daemons += 1
                self._daemon = self.python(
                    "-m", "django", "runnudge", log=self.daemon_log.name, daemon=True
                )

    def kill_daemon(self) -> None:
        """kill -9."""
        with self._lock:
            if self._daemon is not None:
                self._daemon.end(signal.SIGKILL)
                self._daemon = None

    def signal_daemon(self, number: signal.Signals) -> None:
        with self._lock:
            if self._daemon is not None:
                self._daemon.send(number)

    def watch_daemon(self) -> None:
        """Start it again if it ended by itself, which it never should; remember its last words."""
        with self._lock:
            dead = self._daemon is not None and not self._daemon.alive
            if dead:
                assert self._daemon is not None
                status = self._daemon.popen.poll()
                self._daemon.end()
                self._daemon = None
                said = f"runnudge ended with {status}:\n{tail(self.daemon_log)}"
                self.unexpected_exits.append(said)
                self.say(said)
        if dead:
            self.start_daemon()
