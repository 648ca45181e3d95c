"""The command line of a speed benchmark: a table on standard output, progress on standard error.

Exit status: 0, also where an aim is missed, which the table says; 2 if the run itself failed.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from servers.process import ServerFailedError

from benchmarks.speed.awake import awake
from benchmarks.speed.report import Report

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator

__all__ = ["Run", "Speed", "add_arguments", "main"]


class Speed(Protocol):
    """What a benchmark's module offers."""

    def add_arguments(self, parser: ArgumentParser) -> None: ...

    def measure(self, run: Run) -> None: ...


class Run:
    """What `measure` is given: the options, where to say things, and the report to fill.

    `rounds` yields the numbers of the rounds; `in_turn` orders the contenders of a round, another
    one first each time.
    """

    def __init__(self, name: str, options: Namespace) -> None:
        self.options = options
        self.quick: bool = options.quick
        self.report = Report(name, quick=self.quick)
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {words}", file=sys.stderr, flush=True)

    def rounds(self, full: int, quick: int = 1) -> Iterator[int]:
        """As many rounds as `--rounds` says, or `full`, or `quick` with `--quick`."""
        wanted = self.options.rounds or (quick if self.quick else full)
        for each in range(wanted):
            self.say(f"round {each + 1} of {wanted}")
            yield each

    @staticmethod
    def in_turn(contenders: Iterable[Any], each: int) -> list[Any]:
        """The contenders of round `each`."""
        listed = list(contenders)
        first = each % len(listed) if listed else 0
        return listed[first:] + listed[:first]


def add_arguments(parser: ArgumentParser, module: Speed) -> None:
    """The shared options, then the benchmark's own."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--quick", action="store_true", help="one small round: does it run?")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the usual number")
    parser.add_argument(
        "--awake", action="store_true",
        help="let no processor sleep: on a virtual machine it takes long to wake one",
    )  # fmt: skip
    parser.add_argument("--server", metavar="NAME", help="pg15, pg16 …: one of this machine's")
    module.add_arguments(parser)


def main(name: str, module: Speed, options: Namespace) -> int:
    """Measure and report."""
    # Whoever ends us with SIGTERM gets the same cleaning up as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupted)
    run = Run(name, options)
    try:
        with awake() if options.awake else contextlib.nullcontext():
            module.measure(run)
    except ServerFailedError as error:
        run.say(f"The run failed: {error}")
        return 2
    except KeyboardInterrupt:
        run.say("Interrupted; everything is stopped.")
        return 130
    except Exception:
        run.say(f"The run failed:\n{traceback.format_exc()}")
        return 2
    if options.awake:
        run.report.facts["processors"] = "kept awake"
    print(run.report.text())
    if options.json is not None:
        options.json.write_text(json.dumps(run.report.as_json()) + "\n")
    return 0


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
