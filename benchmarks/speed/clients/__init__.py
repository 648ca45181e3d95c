"""Processes that follow a database and say when what arrived: one client, one process.

    feed        a WalFeed, ours or another's with the same keywords
    pipe        pg_recvlogical writing to a pipe

Each is given a `Job`, says `live` once it streams, and, when it has seen the rows of the table and
the row of the sentinel table that is committed last, a `Result`. Times are those of
time.monotonic(), which all processes of a machine share.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from servers.process import ServerFailedError

from benchmarks.speed.child import Child

__all__ = ["LIVE", "UNCOUNTED", "Client", "Job", "Result"]

LIVE: Final = "live"
UNCOUNTED: Final = -1


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
    where there are no nudges), of the sentinel's, and of the last of both. rows: UNCOUNTED if
    nobody counted them. cpu: seconds, user and system, from `live` on.
    """

    first_byte: float
    first: float
    sentinel: float
    last: float
    rows: int
    cpu: float


class Client(Child):
    """One of them; a context manager."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{__name__}.{job.client}", **asdict(job))
        self._rows = job.rows

    def wait_until_live(self) -> None:
        """From here on nothing is missed."""
        if self.hear() != LIVE:
            raise ServerFailedError(f"{self.module} did not begin to stream.")

    def result(self, patience: float) -> Result:
        """Wait until it has seen everything."""
        said = self.hear(patience)
        if said is None:
            raise ServerFailedError(f"{self.module} saw no end within {patience:g} s.")
        result = Result(**said)
        if self._rows and result.rows not in {self._rows, UNCOUNTED}:
            raise ServerFailedError(f"{self.module} saw {result.rows} rows, not {self._rows}.")
        return result
