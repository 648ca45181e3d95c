"""A project's process: `python -m tests.compat.worker PACKAGE` sets it up and runs its steps.

One JSON object a line: `{"step": name, "arguments": [...]}` in, `{"answer": ...}` or
`{"error": traceback}` out. What the project prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any


def main(package: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = f"{package}.settings"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import django

    django.setup()
    from tests.compat import pages

    own: dict[str, Callable[..., Any]] = {
        "problems": problems, "settled": settled, "proven": proven,
        "get": pages.get, "stale": pages.stale, "warm": pages.warm,
    }  # fmt: skip
    steps = import_module(f"{package}.steps")
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        try:
            step = own.get(asked["step"]) or getattr(steps, asked["step"])
            answer = {"answer": step(*asked["arguments"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def problems() -> list[str]:
    """What the system checks say of the project, but for what it silences."""
    from django.core.checks import INFO, run_checks

    found = run_checks(tags=["pgnudge"], databases=["default"])
    return [
        f"{each.id}: {each.msg}" for each in found if each.level > INFO and not each.is_silenced()
    ]


def settled(seconds: float) -> bool:
    """Whether the daemon has done, by then, all that comes from commits before."""
    from django_pgnudge import settled

    return settled(timeout=seconds)


def proven(cache: str) -> float | None:
    """When the daemon last proved itself current, in seconds by the cache's clock."""
    from tests.fix_nudged import lease_in, names_of

    lease = lease_in(cache, names_of())
    return None if lease is None else lease.proven


if __name__ == "__main__":
    main(sys.argv[1])
