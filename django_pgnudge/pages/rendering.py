"""Pages that are not rendered yet: another caller of the same page waits for the rendering.

A ``TemplateResponse`` is rendered after the flight of its view has ended, see
`reader.single_flight`. It may also be dropped without rendering; that ends the wait too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.reader.scope import on_loop

if TYPE_CHECKING:
    from django_pgnudge.reader.single_flight import Name


class BeingRendered(Exception):  # noqa: N818 - nothing is wrong
    """Another caller is rendering this page and will soon store it in the cache."""

    def __init__(self, landed: Future[None], deadline: float) -> None:
        super().__init__("another caller is rendering this page")
        self._landed = landed
        self._deadline = deadline

    def wait(self) -> None:
        """Wait in this thread until it is rendered or dropped, or until the deadline."""
        with contextlib.suppress(TimeoutError):
            self._landed.result(max(0.0, self._deadline - time.monotonic()))

    async def await_it(self) -> None:
        """The same in a task."""
        left = max(0.0, self._deadline - time.monotonic())
        await asyncio.wait({asyncio.wrap_future(self._landed)}, timeout=left)


class Renderings:
    """The pages of this process that are being rendered."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._there: dict[Name, tuple[Future[None], object]] = {}

    def __len__(self) -> int:
        return len(self._there)

    def yield_to_another(self, name: Name, deadline: float) -> None:
        """Raise BeingRendered if another thread or task will render this page.

        A thread does not wait for a task: the task's loop may need this thread.
        """
        with self._lock:
            landed, whose = self._there.get(name, (None, None))
        if landed is None or whose == _me() or time.monotonic() >= deadline:
            return
        if on_loop() or not isinstance(whose, asyncio.Task):
            raise BeingRendered(landed, deadline)

    def begin(self, name: Name, response: Any) -> None:
        """Register a response that the calling thread or task will render."""
        landed: Future[None] = Future()
        with self._lock:
            self._there[name] = landed, _me()
        end = weakref.finalize(response, self._end, name, landed)
        end.atexit = False
        response.add_post_render_callback(partial(_call, end))

    def _end(self, name: Name, landed: Future[None]) -> None:
        with self._lock:
            if self._there.get(name, (None, None))[0] is landed:
                del self._there[name]
        landed.set_result(None)

    def reset_after_fork(self) -> None:
        """Forget all pages: the threads that render them are in the parent process."""
        self._lock = threading.RLock()
        self._there = {}


def _call(end: weakref.finalize[Any, Any], response: Any) -> None:
    end()


def _me() -> object:
    return asyncio.current_task() if on_loop() else threading.get_ident()


renderings: Final = Renderings()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=renderings.reset_after_fork)
