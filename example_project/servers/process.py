"""A server process that cannot outlive us, and what every server needs: an account, a port, a
deadline.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"
GUARD = Path(__file__).with_name("guard.py")


class ServerFailedError(RuntimeError):
    """A server could not be found, started or stopped; the message says which, why, and what its
    log said last.
    """


class PortBusyError(ServerFailedError):
    """The port that was asked for belongs to another process."""


class Account(NamedTuple):
    """The system user a server runs as when we are root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """PostgreSQL refuses to run as root, so root runs it as an account that is there anyway.

    None: as ourselves.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 (there is none on Windows)

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerFailedError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as."
        " Create one with `useradd --system postgres`, or run this as an ordinary user."
    )


def can_traverse(path: Path, account: Account | None) -> bool:
    """Whether the account gets through every directory above `path` and into it."""
    if account is None:
        return True
    path = path.resolve()
    for folder in (path, *path.parents):
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            continue
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def free_port() -> int:
    """A TCP port nobody listens on at this moment.

    Another process may take it before the server does.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
        return False


def wait_until(
    condition: Callable[[], Any], what: str, *, timeout: float = 30.0, interval: float = 0.005
) -> Any:
    """What `condition()` returns once that is true; an error naming `what` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise ServerFailedError(
                f"Waited {timeout:g} s in vain for {what}; at last there was {found!r}."
            )
        time.sleep(interval)
    return found


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, indented for an error message."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        return f"    (no log: {error})"
    last = text.splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in last) or "    (the log is empty)"


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    account: Account | None = None,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> str:
    """A command that ends by itself; its standard output.

    ServerFailedError with its words if it fails.
    """
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env=env,
            # A current directory the account may not enter makes initdb complain.
            cwd="/" if account else None,
            **identity(account),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerFailedError(f"Could not run {command[0]}: {error}") from error
    if done.returncode:
        words = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        raise ServerFailedError(f"{command[0]} ended with status {done.returncode}:\n{words}")
    return done.stdout


def identity(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


class ServerProcess:
    """One server as our child, in a session of its own so that a Ctrl-C in the terminal does not
    reach it first.

    `stop_signal` is what ends it in an orderly way; the guard sends it if we die. The
    folders in `remove` it deletes too.
    """

    running: ClassVar[set[ServerProcess]] = set()
    started: ClassVar[
        list[ServerProcess]
    ] = []  # all of them, for a check at the end that none is left

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        cwd: Path,
        stop_signal: signal.Signals,
        account: Account | None = None,
        remove: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self.stop_signal = stop_signal
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
                **identity(account),
            )
        self.pid = self.popen.pid
        self.remove = list(remove)
        self._guard = subprocess.Popen(
            # Isolated and without site: the guard starts fast and needs only the standard library.
            [
                sys.executable,
                "-IS",
                GUARD,
                str(self.pid),
                str(stop_signal.value),
                *map(os.fspath, remove),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.running.add(self)
        self.started.append(self)

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, signum: signal.Signals) -> None:
        """Signal the process unless it has ended; a reaped process id may be somebody else's by
        now.
        """
        if self.alive:
            self.popen.send_signal(signum)

    def end(self, signum: signal.Signals | None = None, *, timeout: float = 30.0) -> None:
        """Signal, wait, and after `timeout` seconds kill.

        Nothing is left of the process when this returns.
        """
        try:
            if self.alive:
                # A stopped process would keep the signal pending.
                self.popen.send_signal(signal.SIGCONT)
                self.popen.send_signal(signum or self.stop_signal)
            self._release_guard()
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        finally:
            self.running.discard(self)

    def _release_guard(self) -> None:
        self._guard.kill()
        self._guard.wait()
        stdin: IO[bytes] | None = self._guard.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


@atexit.register
def stop_everything() -> None:
    """What is still running when the interpreter ends was forgotten, not wanted."""
    for process in list(ServerProcess.running):
        process.end(timeout=10)
        for folder in process.remove:
            shutil.rmtree(folder, ignore_errors=True)


def processes_below(folder: Path) -> list[int]:
    """Process ids whose current directory is below `folder`: where PostgreSQL and Redis live.

    Linux only, else empty.
    """
    root = f"{folder.resolve()}{os.sep}"
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if f"{os.readlink(entry)}{os.sep}".startswith(root):
                found.append(int(entry.parent.name))
    return found
