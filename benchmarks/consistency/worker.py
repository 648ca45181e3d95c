"""A process of writers or of readers: `python -m benchmarks.consistency.worker JSON`.

Each is a thread with its own connections, its own random numbers and its own file. SIGTERM ends
them; what they counted goes to a file beside the records.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from benchmarks.consistency.ddl import Ddl
    from benchmarks.consistency.reads import Reader
    from benchmarks.consistency.writes import Writer

PATIENCE: Final = 40.0
"""Seconds within which what is under way must end, with all timeouts there are."""


def main(text: str) -> None:
    """Work until SIGTERM."""
    job: dict[str, Any] = json.loads(text)
    stop = threading.Event()
    # Waited for, not handled: a handler would set the event while its lock may be held.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    _shift_the_clock(job["clock"])
    import django  # noqa: PLC0415 - the signal is blocked first

    django.setup()
    from benchmarks.consistency import broken  # noqa: PLC0415 - Django first

    broken.break_readers(job["break"])
    threads = [Work(job, index, stop) for index in job["indexes"]]
    for thread in threads:
        thread.start()
    signal.sigwait({signal.SIGTERM})
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            # A read or a write that never ends is a finding: show where it hangs.
            faulthandler.dump_traceback()
            os._exit(1)
    Path(job["folder"], f"{job['kind']}-{job['indexes'][0]}.counts").write_text(
        json.dumps([thread.result() for thread in threads])
    )
    if any(thread.failure for thread in threads):
        sys.exit(1)


def _shift_the_clock(seconds: float) -> None:
    """As on a host whose clock is ahead by so much; the clock of the records is another."""
    if seconds:
        true = time.time
        time.time = lambda: true() + seconds


class Work(threading.Thread):
    """One writer or one reader."""

    def __init__(self, job: dict[str, Any], index: int, stop: threading.Event) -> None:
        from benchmarks.consistency.ddl import Ddl  # noqa: PLC0415
        from benchmarks.consistency.reads import Reader  # noqa: PLC0415
        from benchmarks.consistency.records import Log  # noqa: PLC0415
        from benchmarks.consistency.writes import Writer  # noqa: PLC0415

        super().__init__(name=f"{job['kind']}-{index}", daemon=True)
        self.failure: BaseException | None = None
        self._log = Log(Path(job["folder"], f"{self.name}.log"))
        rng = random.Random(f"{job['seed']}:{self.name}")
        self.worker: Reader | Writer | Ddl
        if job["kind"] == "ddl":
            self.worker = Ddl(
                self._log, rng, stop, lease=job["lease"], publication=job["publication"],
                calm=job["break"] == "map",
            )  # fmt: skip
        elif job["kind"] == "reader":
            plan = job["plans"][index % len(job["plans"])]
            self.worker = Reader(self.name, self._log, rng, stop, plan=plan, again=job["again"])
        else:
            plan = job["plans"][index % len(job["plans"])]
            self.worker = Writer(self._log, rng, stop, plan=plan, lease=job["lease"])

    def run(self) -> None:
        try:
            self.worker.run()
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self._log.close()

    def result(self) -> dict[str, Any]:
        """What it counted."""
        counts = getattr(self.worker, "counts", None) or getattr(self.worker, "errors", {})
        return {
            "name": self.name,
            "counts": dict(counts),
            "tracebacks": getattr(self.worker, "tracebacks", []),
            "failure": repr(self.failure) if self.failure else None,
        }


if __name__ == "__main__":
    main(sys.argv[1])
