"""Python processes beside a benchmark's own, that end when it does.

A child runs until its standard input ends, which the kernel sees to however its parent goes; what
it prints, a line of JSON at a time, the parent reads. Some do one job and say how it went; others
answer what they are asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from servers.process import ServerFailedError

from benchmarks import ROOT
from benchmarks.local import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["Child", "answer", "end_with_parent", "say"]


class Child:
    """`python -m MODULE JSON`, as a context manager; ``environment`` instead of the usual one."""

    def __init__(
        self, module: str, *, environment: Mapping[str, str] | None = None, **job: Any
    ) -> None:
        self.module = module
        self._environment = child_environment() if environment is None else environment
        self._job = json.dumps(job)
        self._heard = b""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, self._job],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=self._environment,
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self, patience: float = 30.0) -> Any:
        """The next thing it says, or None after that many seconds.

        ServerFailedError if it has ended.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._heard:
            if not select.select([self._process.stdout], [], [], patience)[0]:
                return None
            more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                raise ServerFailedError(f"{self.module} ended with status {self._process.wait()}.")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def ask(self, *words: Any, patience: float = 300.0) -> Any:
        """What the function of `answer` returns for these words.

        ServerFailedError if the child has ended, or says nothing in that many seconds.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
        answered = self.hear(patience)
        if answered is None:
            raise ServerFailedError(f"{self.module} did not answer {words[:1]} in {patience} s.")
        return answered[0]


def answer(function: Callable[..., Any]) -> None:
    """In the child: call it with the words of each question, until there are no more."""
    for line in sys.stdin:
        say([function(*json.loads(line))])


def say(value: Any) -> None:
    """In the child: tell the parent."""
    print(json.dumps(value), flush=True)


def end_with_parent() -> None:
    """In the child: end when the parent closes our standard input, or has gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
