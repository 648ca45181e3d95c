"""Processes that follow a database and say when what arrived: one client, one process.

    feed        a WalFeed, ours or another's with the same keywords
    pipe        pg_recvlogical writing to a pipe

Each is given a `Job`, prints `live` once it streams, ends when it has seen the rows of the table
and the row of the sentinel table that is committed last, and prints a `Result`. Times are those of
time.monotonic(), which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from servers.process import ServerFailedError, ServerProcess, tail, wait_until

from benchmarks import ROOT
from benchmarks.local import child_environment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIVE", "Client", "Job", "Result"]

LIVE: Final = "live"


@dataclass(frozen=True)
class Job:
    """What a client waits for, and how it follows.

    table, sentinel: payloads; rows: how many of the table there must be. client: the module here;
    feed: the module with the WalFeed, and keywords: its arguments; command: of the program that
    writes to the pipe.
    """

    table: str
    sentinel: str
    rows: int
    client: str = ""
    feed: str = ""
    keywords: dict[str, Any] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a client saw.

    Moments: of the first change's first byte, of the first word of the table (of its first row,
    where there are no nudges), of the sentinel's, and of the last of both. rows: -1 if nobody has
    counted them. cpu: seconds, user and system, from `live` on.
    """

    first_byte: float
    first: float
    sentinel: float
    last: float
    rows: int
    cpu: float


class Client:
    """One of them, as our child; a context manager, in which it is live."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._log = folder / f"{job.client}.log"

    def __enter__(self) -> Self:
        self._log.write_text("")
        self._process = process = ServerProcess(
            [sys.executable, "-m", f"{__name__}.{self._job.client}", json.dumps(asdict(self._job))],
            log=self._log,
            cwd=ROOT,
            stop_signal=signal.SIGTERM,
            env=child_environment(),
        )
        with contextlib.ExitStack() as stack:
            stack.callback(process.end)
            wait_until(lambda: self._live or not process.alive, "the client to be live")
            if not process.alive:
                raise ServerFailedError(f"The client ended:\n{tail(self._log)}")
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    @property
    def _live(self) -> bool:
        return LIVE in self._log.read_text().splitlines()

    def result(self, timeout: float) -> Result:
        """Wait until it has seen everything."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.popen.wait(timeout)
        said = self._log.read_text().splitlines()
        if self._process.popen.poll() != 0 or not said:
            raise ServerFailedError(f"The client did not see everything:\n{tail(self._log)}")
        result = Result(**json.loads(said[-1]))
        if self._job.rows and result.rows not in {self._job.rows, -1}:
            raise ServerFailedError(f"The client saw {result.rows} rows, not {self._job.rows}.")
        return result
