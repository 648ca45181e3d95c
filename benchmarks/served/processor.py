"""The processor time of programs and of what they started; Linux only."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["seconds"]

_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def seconds(roots: Iterable[int]) -> float:
    """Of these processes, of those below them, and of those that have ended there; else 0."""
    below: dict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # The program's name may have blanks and parentheses in it.
            fields = entry.read_text().rpartition(")")[2].split()
            pid = int(entry.parent.name)
            below[int(fields[1])].append(pid)
            used[pid] = sum(map(int, fields[11:15]))
    ticks, left = 0, list(roots)
    while left:
        pid = left.pop()
        ticks += used.get(pid, 0)
        left += below[pid]
    return ticks / _TICKS
