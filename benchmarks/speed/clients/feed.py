"""A client that counts what a WalFeed says: `python -m benchmarks.speed.clients.feed JOB`."""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
import time
from dataclasses import asdict

from benchmarks.speed.child import end_with_parent, say
from benchmarks.speed.clients import LIVE, Job, Result
from benchmarks.speed.clients.arrival import Arrival


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def follow(job: Job, arrival: Arrival) -> Result:
    """Count until the table and the sentinel are through."""
    feed = importlib.import_module(job.feed).WalFeed(**job.keywords)
    table, sentinel = job.table, job.sentinel
    rows = 0
    first = end = 0.0
    async with feed:
        items = aiter(feed)
        await anext(items)  # Resync("connected"): it streams
        arrival.expect()
        say(LIVE)
        before = cpu()
        while rows < job.rows or not end:
            batch = await anext(items)
            # A Resync has no events: it would be rows lost, and is not expected here.
            for event in batch.events:
                if event.payload == table:
                    first = first or time.monotonic()
                    rows += event.count
                elif event.payload == sentinel:
                    end = end or time.monotonic()
        last = time.monotonic()
        used = cpu() - before
    return Result(arrival.moment, first, end, last, rows, used)


def main(text: str) -> None:
    end_with_parent()
    job = Job(**json.loads(text))
    arrival = Arrival()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(arrival)) as runner:
        say(asdict(runner.run(follow(job, arrival))))


if __name__ == "__main__":
    main(sys.argv[1])
