"""The command line: one JSON object on standard output, progress on standard error.

Exit status: 0, or 1 if anything was found that must not be, or 2 if the run itself failed.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from servers.process import ServerFailedError

from benchmarks.consistency.options import Options, add_arguments
from benchmarks.consistency.run import run

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["add_arguments", "main"]


def main(arguments: Namespace) -> int:
    """Run and report."""
    # Whoever ends us with SIGTERM gets the same cleaning up as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupted)
    names = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{key: value for key, value in vars(arguments).items() if key in names})
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", file=sys.stderr, flush=True)

    try:
        report = run(options, say)
    except ServerFailedError as error:
        say(f"The run failed: {error}")
        return 2
    except Exception:
        # Python's own status for this is 1, which here means a violation.
        say(f"The run failed:\n{traceback.format_exc()}")
        return 2
    except KeyboardInterrupt:
        say("Interrupted; everything is stopped.")
        return 130
    text = json.dumps(report, indent=2, default=_plain)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    say("No violation." if report["ok"] else f"Violations: {report['violations']['counts']}")
    return 0 if report["ok"] else 1


def _plain(value: Any) -> Any:
    return str(value)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
