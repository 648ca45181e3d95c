"""The real daemon in a thread of the test process."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.reader.settled import settled
from django_pgnudge.testing.apart import apart


class NudgeFeed(BackgroundDaemon):
    """The real daemon in a thread, with keys `apart` from those of the project."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._apart = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(apart())
            super().__enter__()
            self._apart = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._apart:
            super().__exit__(exc_type, exc, traceback)

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until everything committed so far has reached the caches and the receivers."""
        if not settled(timeout, using=self.daemon.using):
            raise AssertionError(f"the daemon did not settle within {timeout} s; its log says why")
