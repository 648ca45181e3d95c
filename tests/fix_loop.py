"""A test fails on an exception that an asyncio event loop had nobody to give to, in whichever
thread the loop ran.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before() -> None:
    """It is no test's here, and no collection need walk it: that took longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def stray_exceptions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The contexts of stray exceptions so far.

    A test that provokes one on purpose clears the list.
    """
    strays: list[dict[str, Any]] = []
    loops_ran = False
    handle = asyncio.BaseEventLoop.call_exception_handler
    run_forever = asyncio.BaseEventLoop.run_forever

    def record(self: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        strays.append(context)
        handle(self, context)

    def note_and_run(self: asyncio.BaseEventLoop) -> None:
        nonlocal loops_ran
        loops_ran = True
        run_forever(self)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_exception_handler", record)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_forever", note_and_run)
    yield strays
    if loops_ran and not strays:
        # A task whose exception nobody asked for speaks only when it is collected.
        gc.collect()
    if strays:
        words = "\n".join(
            f"  {context.get('message')}: {context.get('exception')!r}" for context in strays
        )
        pytest.fail(f"Stray exceptions in an event loop:\n{words}", pytrace=False)
