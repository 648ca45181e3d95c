"""One process computes a value once at a time: who computes, and who may wait for whom.

A flight is one computation under way. A caller that is itself inside a computation may wait only if
that makes no circle: two threads whose values need each other would wait for ever.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Name: TypeAlias = tuple[str, str]
"""A cache alias and the key of an entry in it."""

_inside: ContextVar[tuple[Flight, ...]] = ContextVar("pgnudge_inside", default=())


@dataclass(eq=False, slots=True)
class Flight:
    """A computation under way. ``on_loop``: a task of an event loop does it."""

    name: Name
    on_loop: bool
    landed: Future[None] = field(default_factory=Future)
    waits_for: list[Flight] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    joined: int = 0
    stored: bool = False
    """Whether those who waited find the value in the cache."""
    _handed_over: bytes | None = None

    def tell(self, value: Any, *, stored: bool, private: bool) -> None:
        """Take the result. A value that is not stored is handed over to those who wait, as a copy
        for each, unless it is private or cannot be copied.
        """
        self.stored = stored
        if not (stored or private) and self.joined:
            with suppress(Exception):  # pickling runs the value's own code
                self._handed_over = pickle.dumps(value)

    def handed_over(self, oldest: float) -> tuple[Any] | None:
        """The value, if it was handed over and began to be computed at most ``oldest`` seconds
        ago.
        """
        if self._handed_over is not None and time.monotonic() - self.began <= oldest:
            with suppress(Exception):
                return (pickle.loads(self._handed_over),)  # noqa: S301 - what this process has made
        return None


class SingleFlight:
    """The computations of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Name, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join_or_start(self, name: Name, *, on_loop: bool) -> tuple[Flight | None, bool]:
        """The flight to wait for and False, or one's own new flight and True.

        None and False if waiting for the other flight might never end: in a circle, or because a
        task on a loop may need this very thread.
        """
        with self._lock:
            there = self._flights.get(name)
            if there is None:
                flight = self._flights[name] = Flight(name, on_loop)
                return flight, True
            if (there.on_loop and not on_loop) or _leads_to(there, _inside.get()):
                return None, False
            there.joined += 1
            return there, False

    @contextmanager
    def waiting(self, flight: Flight) -> Iterator[bool]:
        """The computations around this caller wait for ``flight``; False if that makes a circle."""
        mine = _inside.get()
        with self._lock:
            safe = not _leads_to(flight, mine)
            if safe:
                for each in mine:
                    each.waits_for.append(flight)
        try:
            yield safe
        finally:
            if safe:
                with self._lock:
                    for each in mine:
                        each.waits_for.remove(flight)

    @contextmanager
    def flying(self, flight: Flight) -> Iterator[None]:
        """Around the computation; the flight lands at the end, also after an exception."""
        token = _inside.set((*_inside.get(), flight))
        try:
            yield
        finally:
            _inside.reset(token)
            with self._lock:
                if self._flights.get(flight.name) is flight:
                    del self._flights[flight.name]
            flight.landed.set_result(None)

    def reset_after_fork(self) -> None:
        """The threads that computed are in the parent."""
        self._lock = threading.Lock()
        self._flights = {}


def _leads_to(flight: Flight, mine: tuple[Flight, ...]) -> bool:
    """Whether ``flight`` is one of ``mine`` or waits for one of them, directly or not."""
    seen: list[Flight] = []
    ahead = [flight]
    while ahead:
        each = ahead.pop()
        if each in mine:
            return True
        if each not in seen:
            seen.append(each)
            ahead += each.waits_for
    return False


flights: Final = SingleFlight()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=flights.reset_after_fork)
