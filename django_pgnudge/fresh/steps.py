"""What the protocol of reading asks of whoever drives it: each step and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from django_pgnudge.caches import Question
    from django_pgnudge.fresh.entries import Stamp
    from django_pgnudge.fresh.flights import Flight

__all__ = [
    "FORBIDDEN",
    "Add",
    "Ask",
    "Compute",
    "Computed",
    "Delete",
    "Get",
    "Has",
    "Join",
    "Keep",
    "Make",
    "Put",
    "Sleep",
    "Step",
]


FORBIDDEN: Final = object()
"""The answer where the caller's transaction does not see what everybody sees."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An `Answer`; None if the cache gives none; `FORBIDDEN`."""

    question: Question


@dataclass(frozen=True, slots=True)
class Make:
    """Delete what is foreign, make tokens (text and seconds to live by key), and ask again."""

    question: Question
    tokens: Mapping[str, tuple[str, int | None]]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Get:
    """Plain data that the daemon has stored; None if there is none."""

    key: str


@dataclass(frozen=True, slots=True)
class Has:
    """Whether there is anything under a key; None if the cache gives no answer."""

    key: str


@dataclass(frozen=True, slots=True)
class Add:
    """Set a text unless there is one; whether it was set. ``timeout`` in seconds."""

    key: str
    text: str
    timeout: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a value under its stamp; ``timeout`` as the user gave it."""

    key: str
    stamp: Stamp
    value: Any
    timeout: Any


@dataclass(frozen=True, slots=True)
class Put:
    """Store plain data that stands on nothing; ``timeout`` as the user gave it."""

    key: str
    value: Any
    timeout: Any


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key."""

    key: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Join:
    """Wait until a flight has landed; whether it has after ``timeout`` seconds."""

    flight: Flight
    timeout: float


@dataclass(frozen=True, slots=True)
class Compute:
    """Call the function; what it raises is thrown in. Its result comes as `Computed`."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What a function returned.

    ``others`` are the stamps of the nudged values it used, ``private`` whether the result is not
    everybody's and must be neither stored nor handed to others, and ``why`` a reason that has not
    been logged.
    """

    value: Any
    others: tuple[Stamp, ...] = ()
    private: bool = False
    why: str = ""


Step: TypeAlias = Ask | Make | Get | Has | Add | Keep | Put | Delete | Sleep | Join | Compute
