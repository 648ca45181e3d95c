"""What a benchmark takes from this machine: a PostgreSQL, and an environment for its processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servers.postgres import find_installations
from servers.process import ServerFailedError, ServerProcess

from benchmarks import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from servers.installations import Installation
    from servers.postgres import Postgres
    from servers.redis import Redis

__all__ = [
    "child_environment",
    "choose_installation",
    "open_servers",
    "start_runnudge",
]


def choose_installation(name: str | None) -> Installation:
    """The one of that name; without one, the one with most output plugins."""
    found = [each for each in find_installations(docker=False) if name in {None, each.name}]
    if not found:
        raise ServerFailedError(f"There is no PostgreSQL {name or ''} on this machine.")
    return max(found, key=lambda each: len(each.plugins))


def open_servers(stack: ExitStack, postgres: Postgres, redis: Redis, database: str) -> Path:
    """Start both and make an empty database; the folder returned goes when they do."""
    folder = Path(tempfile.mkdtemp(prefix="pgnudge-speed-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.enter_context(postgres)
    stack.enter_context(redis)
    postgres.create_database(database)
    return folder


def child_environment(**more: str) -> dict[str, str]:
    """Ours for a Python process that imports what we do, without what libpq would read."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return kept | {"PYTHONPATH": path} | more


def start_runnudge(environment: Mapping[str, str], log: Path) -> ServerProcess:
    """The daemon as a process; ``log`` is what it writes to its output."""
    return ServerProcess(
        [sys.executable, "-m", "django", "runnudge"],
        log=log,
        cwd=ROOT,
        stop_signal=signal.SIGTERM,
        env=dict(environment),
    )
