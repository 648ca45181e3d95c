"""Keeps a processor from sleeping: `python -m benchmarks.speed.awake JSON`.

On a virtual machine, to wake a sleeping processor takes as long as all that is measured, and
whether it sleeps in a pause of some microseconds depends on how long the pause is. A process of
idle priority gives way to everybody at once, and there is nothing left to be woken.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

from benchmarks.speed.child import Child, end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["awake", "main"]


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Every processor, for as long as this lasts. Linux only."""
    with contextlib.ExitStack() as stack:
        for processor in os.sched_getaffinity(0):
            stack.enter_context(Child(__name__, processor=processor))
        yield


def main(text: str) -> None:
    """Do nothing, all the time."""
    end_with_parent()
    os.sched_setaffinity(0, {json.loads(text)["processor"]})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


if __name__ == "__main__":
    main(sys.argv[1])
