"""What writers and readers note down, one JSON array a line, in files of their own.

Times are of time.monotonic(), which is one clock for all processes of a host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

UNKNOWN: Final = float("inf")
"""When a COMMIT returned whose connection broke: perhaps never."""

ABSENT: Final = -2
"""The version of a row that was not there; see `history`."""


class Seen(NamedTuple):
    """One row as a value holds it; `total` is the number of rows for a table of batches."""

    table: str
    row: int
    version: int
    total: int | None = None


Value: TypeAlias = tuple[Seen, ...]


class Write(NamedTuple):
    """One transaction: COMMIT was sent after `begun` and had returned before `ended`."""

    path: str
    begun: float
    ended: float
    value: Value


class Read(NamedTuple):
    """One read: what it gave, whether without computing, and whether anybody may judge it.

    `lag` is how long a miss took from before its query until it was stored. `private` reads were
    made inside a transaction with an old snapshot or with writes of its own.
    """

    kind: str
    reader: str
    key: str
    begun: float
    ended: float
    hit: bool
    value: Value
    lag: float = 0.0
    private: bool = False


def value_of(raw: Iterable[Iterable[Any]]) -> Value:
    """A value from what a cache or a file holds."""
    return tuple(Seen(*each) for each in raw)


class Log:
    """A file that one thread appends to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1 << 16)

    def add(self, record: Write | Read) -> None:
        self._file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Reads:
    """All reads of a run, read from the files each time they are gone through."""

    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[Read]:
        for path in self.paths:
            with path.open() as lines:
                for line in lines:
                    raw = json.loads(line)
                    raw[6] = value_of(raw[6])
                    yield Read(*raw)


def writes(paths: Iterable[Path]) -> Iterator[Write]:
    """All writes of a run."""
    for path in paths:
        with path.open() as lines:
            for line in lines:
                path_, begun, ended, raw = json.loads(line)
                yield Write(path_, begun, ended, value_of(raw))
