"""From starting ``runnudge`` until it is live: its slot is made and its log line says so."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from servers.process import ServerFailedError

from benchmarks import ROOT
from benchmarks.speed.report import OURS
from benchmarks.speed.shop import Shop

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping

    from benchmarks.speed.command import Run

PYTHON: Final = "Python alone"
SETUP: Final = "Python, django.setup()"
IMPORT: Final = "Python, django.setup(), import of the daemon"

PROGRAMS: Final = {
    PYTHON: "pass",
    SETUP: "import django; django.setup()",
    IMPORT: "import django; django.setup(); import django_pgnudge.daemon",
}
LIVE: Final = b"Connected to PostgreSQL"

CASE: Final = "the example shop, from the start of the process"
FIGURE: Final = "ms"
REACH: Final = 1000.0


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own."""


def measure(run: Run) -> None:
    with Shop(run.options.server) as shop:
        run.report.facts = shop.facts()
        environment = shop.environment()
        _until_live(environment)  # compiles what has never been imported here
        for each in run.rounds(full=15):
            for contender in run.in_turn([OURS, *PROGRAMS], each):
                if contender == OURS:
                    seconds = _until_live(environment)
                else:
                    seconds = _until_end(environment, PROGRAMS[contender])
                run.report.add(CASE, contender, **{FIGURE: seconds * 1000})
    report = run.report
    report.at_most("runnudge until it is live", report.median(CASE, FIGURE), REACH, FIGURE)
    report.notes.append(
        "Live is the log line after the slot is made: behind the last import come the management"
        " command, what PostgreSQL is asked about tables, the connection, and the making of the"
        " slot. The other programs are timed until they have ended."
    )


def _until_live(environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "django", "runnudge"],
        cwd=ROOT, env=dict(environment), stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr
        said = []
        try:
            for line in process.stderr:
                said.append(line.decode("utf-8", "replace"))
                if LIVE in line:
                    return time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGTERM)
    raise ServerFailedError(f"runnudge was never live:\n{''.join(said)}")


def _until_end(environment: Mapping[str, str], program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=dict(environment), check=True)
    return time.perf_counter() - began
