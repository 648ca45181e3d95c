"""What ``manage.py demo`` does: two servers, runnudge and the site, until told to stop.

Nothing here knows the shop. A signal only sets a flag: what has been started is stopped in one
place, in the reverse order, whichever way this ends.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from servers.postgres import Postgres, find_installations, reachable_directory
from servers.process import ServerFailedError, ServerProcess, free_port, run, server_account, tail
from servers.redis import Redis, find_redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from servers.installations import Installation

    from shop_site.state import State

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
HOST = "127.0.0.1"
DATABASE = "shop"
READY_WITHIN = 60.0
TICK = 0.1


class StopRequestedError(Exception):
    """Ctrl-C or SIGTERM: the demo is to end, and that is no failure."""


class DemoFailedError(Exception):
    """The demo cannot start or go on; the text says why and what to do."""


class Demo:
    """One run of the demo on one state folder."""

    def __init__(
        self, state: State, *, port: int, postgres: int | None, say: Callable[[str], None]
    ) -> None:
        self.state = state
        self.port = port
        self.major = postgres
        self.say = say
        self.children: dict[str, ServerProcess] = {}
        self._servers: tuple[Postgres | Redis, ...] = ()
        self._stop = False
        self._paused = False

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def run(self, *, reset: bool = False) -> None:
        """Start everything, then watch it until a signal comes, or raise what went wrong."""
        handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            with contextlib.suppress(StopRequestedError), contextlib.ExitStack() as stack:
                try:
                    self._start(stack, reset=reset)
                    self._watch()
                except ServerFailedError:
                    # A Ctrl-C in the terminal reaches the short-lived commands too.
                    self._check_stop()
                    raise
                finally:
                    if self._servers:
                        self.say("Stopping …")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _check_stop(self) -> None:
        if self._stop:
            raise StopRequestedError

    def _start(self, stack: contextlib.ExitStack, *, reset: bool) -> None:
        stack.enter_context(self.state.lock())
        self._claim_port()
        if reset:
            self._reset()
        self.state.forget()
        stack.callback(self.state.forget)

        postgres = Postgres(
            installation := self._installation(),
            self._postgres_directory(installation.version[0]),
            # Only by the socket in a private folder: other users of the machine stay outside.
            hba=["local all all trust", "local replication all trust"],
            durable=True,
        )
        stack.callback(postgres.stop)
        postgres.start()
        self.say(f"{installation} is running.")
        self._check_stop()
        program = find_redis()
        # A snapshot of one server is not always read by another, such as that of another Python.
        source = program.source if program is not None else "none"
        redis = Redis(program, self.state.path / f"redis-{source}")
        stack.callback(redis.stop)
        redis.start()
        if redis.ours:
            # So the page can tell which keys were deleted, and not only which should have been.
            redis.command("CONFIG", "SET", "notify-keyspace-events", "Eg")
        self.say(f"{redis.program} is running.")
        self._check_stop()
        self._servers = (postgres, redis)

        environment = {
            "PGHOST": str(postgres.socket_dir),
            "PGPORT": str(postgres.port),
            "PGUSER": postgres.user,
            "PGDATABASE": DATABASE,
            "REDIS_URL": redis.url,
        }
        if not postgres.has_database(DATABASE):
            postgres.create_database(DATABASE)
        # The checks of the database look for what the migrations are about to make.
        self._manage(environment, "migrate", "--no-input")
        self._manage(environment, "loadsample", "--if-empty")
        self.say("The tables are migrated, the sample data is there.")

        # The site reads servers.json to know that it is supervised, so the file comes first.
        self.state.write(
            {
                "pid": os.getpid(),
                "url": self.url,
                "psql": str(installation.program("psql")),
                "environment": environment,
            }
        )
        self._spawn(stack, environment, "runnudge", "runnudge")
        self._spawn(stack, environment, "site", "runserver", "--noreload", f"{HOST}:{self.port}")
        self._wait_until_ready()

    def _claim_port(self) -> None:
        if self.port == 0:
            self.port = free_port()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise DemoFailedError(
                        f"port {self.port} is in use by another program; stop that one, or choose"
                        f" another port with --port {self.port + 1}"
                    ) from None
                raise DemoFailedError(
                    f"port {self.port} cannot be used ({error.strerror}); choose another: --port"
                ) from None

    def _installation(self) -> Installation:
        """The embedded wheel's newest or the version asked for, else an installed one."""
        found = find_installations(docker=False, installed=False)
        found += find_installations(docker=False, embedded=False)
        for installation in found:
            if self.major in {None, installation.version[0]}:
                return installation
        wanted = f"PostgreSQL {self.major}" if self.major else "PostgreSQL"
        here = ", ".join(map(str, found)) or "none at all"
        raise DemoFailedError(
            f"no {wanted} was found (found: {here}); the demo's requirements bring 16 and 18:"
            " python -m pip install -e '.[demo]'"
        )

    def _postgres_directory(self, major: int) -> Path:
        directory = reachable_directory(self.state.path / f"postgres-{major}")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = server_account()
        status = directory.lstat()
        # For root in a private folder it lies in /var/tmp, where anybody can be first.
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {
            os.geteuid(),
            account.uid if account else os.geteuid(),
        }:
            raise DemoFailedError(
                f"{directory} is a link or belongs to somebody else;"
                " remove it, or choose another --state"
            )
        return directory

    def _reset(self) -> None:
        majors = {installation.version[0] for installation in find_installations(docker=False)}
        for major in majors:
            shutil.rmtree(self._postgres_directory(major))
        self.state.reset()

    def _environment(self, addresses: dict[str, str]) -> dict[str, str]:
        """Ours without libpq's variables, which are about somebody else's server."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PG") or name.startswith("PGNUDGE_")
        }
        return kept | addresses | {"SHOP_STATE": str(self.state.path), "PYTHONUNBUFFERED": "1"}

    def _manage(self, addresses: dict[str, str], *words: str) -> None:
        run([sys.executable, MANAGE, *words], env=self._environment(addresses), timeout=300)
        self._check_stop()

    def _spawn(
        self, stack: contextlib.ExitStack, addresses: dict[str, str], name: str, *words: str
    ) -> None:
        log = self.state.log(name)
        log.write_text("")
        child = ServerProcess(
            [sys.executable, MANAGE, *words],
            log=log,
            cwd=self.state.path,
            stop_signal=signal.SIGTERM,
            env=self._environment(addresses),
        )
        stack.callback(child.end, timeout=10)
        self.children[name] = child

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        answer = "nothing"
        while answer != "ready":
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"  {name}:\n{tail(child.log)}" for name, child in self.children.items()
                )
                raise DemoFailedError(
                    f"not ready after {READY_WITHIN:.0f} s; the site says: {answer}\n{logs}"
                )
            self._tick()
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self._ask()

    def _ask(self) -> str:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/ready/")
            response = connection.getresponse()
            body = response.read(200).decode(errors="replace")
        finally:
            connection.close()
        return body if response.status in {200, 503} else f"status {response.status}"

    def _watch(self) -> None:
        self.say(f"\n  The shop is at {self.url}\n")
        self.say(
            "  Open it and press the buttons: each one writes in a different way, and the page\n"
            "  shows which cached values died. Or write past it, in another terminal:\n\n"
            f"    {Path(sys.executable).name} {_short(MANAGE)} shell\n"
            "    >>> Product.objects.update(stock=0)\n\n"
            f"  State and logs: {_short(self.state.path)}\n"
            "  Ctrl-C stops everything."
        )
        while True:
            self._tick()

    def _tick(self) -> None:
        """One look at the signal, the children, the servers and the page's pause button."""
        self._check_stop()
        for name, child in self.children.items():
            if not child.alive:
                status = child.popen.returncode
                how = f"ended with status {status}"
                if status < 0:
                    how = f"was killed by signal {-status}"
                raise DemoFailedError(f"{name} {how}. Its log ends:\n{tail(child.log)}")
        for server in self._servers:
            if not server.running and getattr(server, "ours", True):
                raise DemoFailedError(
                    f"{type(server).__name__} died. Its log ends:\n{tail(server.log)}"
                )
        wanted = self.state.pause_file.exists()
        if wanted != self._paused and "runnudge" in self.children:
            self.children["runnudge"].send(signal.SIGSTOP if wanted else signal.SIGCONT)
            self._paused = wanted
        time.sleep(TICK)


def _short(path: Path) -> str:
    """Relative to where we are if it lies below, so that it can be typed."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
