"""A client that drains what pg_recvlogical writes: `python -m benchmarks.speed.clients.pipe JOB`.

It asks as little of the machine as it can: a wide pipe, emptied every millisecond, in which only
the sentinel is looked for. A reader that took each row as it came would be woken for each, and
would slow pg_recvlogical down.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Final

from benchmarks.speed.child import end_with_parent, say
from benchmarks.speed.clients import LIVE, UNCOUNTED, Job, Result

WIDTH: Final = 1 << 20
"""Bytes a pipe of an ordinary user may hold."""
PAUSE: Final = 0.001
"""Seconds in which it does not fill."""
SENTINEL_SIZE: Final = 2048
"""More bytes than the sentinel's transaction has, in any plugin."""


def drain(job: Job, pipe: int) -> tuple[float, float, float]:
    """Read to the sentinel's row; the moments of the first byte, the table's first row, the end."""
    table, sentinel = (name.partition(".")[2].encode() for name in (job.table, job.sentinel))
    tail = b""
    arrived = first = 0.0
    while True:
        chunk = os.read(pipe, WIDTH)
        now = time.monotonic()
        if not chunk:
            sys.exit("pg_recvlogical ended")
        arrived = arrived or now
        if not first and table in tail + chunk:
            first = now
        tail = (tail + chunk[-SENTINEL_SIZE:])[-SENTINEL_SIZE:]
        if sentinel in tail:
            return arrived, first, now
        if len(chunk) < WIDTH // 2:
            time.sleep(PAUSE)


def main(text: str) -> None:
    end_with_parent()
    job = Job(**json.loads(text))
    program = subprocess.Popen(job.command, stdout=subprocess.PIPE)
    assert program.stdout is not None
    try:
        pipe = program.stdout.fileno()
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDTH)
        say(LIVE)
        arrived, first, last = drain(job, pipe)
    finally:
        program.terminate()
        program.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    say(asdict(Result(arrived, first, last, last, UNCOUNTED, cpu)))


if __name__ == "__main__":
    main(sys.argv[1])
