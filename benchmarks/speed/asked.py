"""A process that answers each line of JSON with a line of JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from benchmarks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Asked", "answer"]


class Asked:
    """The process of a module that calls ``answer``; killed at the end."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._module = module
        self._arguments = arguments
        self._environment = environment

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", self._module, *self._arguments],
                    cwd=ROOT, env=self._environment, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )  # fmt: skip
            stack.callback(self._process.kill)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def ask(self, *words: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with {self._process.wait()}")
        return json.loads(line)


def answer(function: Callable[..., Any]) -> None:
    """In the process: call it with the words of each line, until there are no more."""
    for line in sys.stdin:
        print(json.dumps(function(*json.loads(line))), flush=True)
