"""Threads for work that must not block the event loop, and futures for their results."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from django_pgnudge.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger("django_pgnudge.daemon")

T = TypeVar("T")


class Thread:
    """One daemon thread that runs functions in order.

    Not a ThreadPoolExecutor: the interpreter waits for its threads at exit, and a cache or query
    that hangs must not keep a process alive that was told to stop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wake = threading.Condition()
        self._calls: deque[tuple[Callable[[], Any], Future[Any] | asyncio.Future[Any]]] = deque()
        self._started = False

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``function`` in the thread and return a future of its result.

        Call this on the event loop.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._add(function, future)
        return future

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call in the thread, for another thread that waits for the result."""
        future: Future[T] = Future()
        self._add(function, future)
        return future

    def _add(self, function: Callable[[], Any], future: Future[Any] | asyncio.Future[Any]) -> None:
        with self._wake:
            self._calls.append((function, future))
            self._wake.notify()
            start, self._started = not self._started, True
        if start:
            threading.Thread(target=self._loop, name=self._name, daemon=True).start()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._calls:
                    self._wake.wait()
                function, future = self._calls.popleft()
            if future.cancelled():
                continue  # The caller no longer waits.
            answer(future, function)


def answer(future: Future[T] | asyncio.Future[T], function: Callable[[], T]) -> None:
    """Call ``function`` in this thread and give the future its result or exception."""
    try:
        result = function()
    except BaseException as exc:
        set_outcome(future, error=exc)
    else:
        set_outcome(future, result)


def set_outcome(
    future: Future[Any] | asyncio.Future[Any],
    result: Any = None,
    *,
    error: BaseException | None = None,
) -> None:
    """Give a future its result from another thread; does nothing if its loop is closed."""

    def give() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    if isinstance(future, Future):
        give()
        return
    try:
        future.get_loop().call_soon_threadsafe(give)
    except RuntimeError:
        logger.debug("The event loop closed before %r ended.", future)
