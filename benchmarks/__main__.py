"""`python -m benchmarks NAME …`: measurements and proofs that take longer than a test."""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks.consistency import command as consistency
from benchmarks.speed import command as speed
from benchmarks.speed import plots
from benchmarks.topologies import command as topologies

if TYPE_CHECKING:
    from collections.abc import Callable

SPEED: Final[dict[str, str]] = {
    "latency": "how long after COMMIT a Redis key is gone, idle and at 2,000 commits/s",
    "throughput": "rows a second of the feed, and what a row costs it",
    "big-transaction": "a million rows in one commit, and a small commit behind it",
    "clear": "a Resync of one version of a cache, and what other clients feel of it",
    "hit": "a nudged value that is in the cache",
    "start": "runnudge until it is live",
    "observed": "values and sites that depend on what they read, beside those that name it",
    "memory": "what the daemon grows by, in a big transaction and in a day of small ones",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    run: dict[str, Callable[[argparse.Namespace], int]] = {"consistency": consistency.main}
    purpose = "writers, readers and faults: is anything served that is too old?"
    consistency.add_arguments(commands.add_parser("consistency", help=purpose, description=purpose))
    run["topologies"] = topologies.main
    purpose = "the caches that sites have, with a failover where there can be one"
    topologies.add_arguments(commands.add_parser("topologies", help=purpose, description=purpose))
    run["plots"] = plots.main
    purpose = "pictures and tables of what the benchmarks found"
    plots.add_arguments(commands.add_parser("plots", help=purpose, description=plots.__doc__))
    for name, purpose in SPEED.items():
        module: Any = importlib.import_module(f"benchmarks.speed.{name.replace('-', '_')}")
        speed.add_arguments(commands.add_parser(name, help=purpose, description=purpose), module)
        run[name] = functools.partial(speed.main, name, module)
    options = parser.parse_args(arguments)
    return run[options.name](options)


if __name__ == "__main__":
    sys.exit(main())
