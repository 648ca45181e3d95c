"""What the protocol of a reader asks to be done: the words between `reading` and `driving`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from django_pgnudge.fresh.flights import Flight

__all__ = ["Add", "Begin", "Compute", "Delete", "GetMany", "Join", "Set", "Sleep", "Step"]


@dataclass(frozen=True, slots=True)
class Begin:
    """``GetMany``, or None where a transaction forbids the cache: asked once, and first."""

    keys: list[str]


@dataclass(frozen=True, slots=True)
class GetMany:
    """A mapping of what is there; None if the cache is broken."""

    keys: list[str]


@dataclass(frozen=True, slots=True)
class Add:
    """Set unless it is there; whether it was set. ``timeout`` in seconds, None for ever."""

    key: str
    value: Any
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Set:
    """Store a value; ``timeout`` as the user gave it."""

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
    """Call the function; what it raises is thrown in."""


Step: TypeAlias = Begin | GetMany | Add | Set | Delete | Sleep | Join | Compute
