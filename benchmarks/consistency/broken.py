"""Takes one part of the promise away, to see whether the checker notices.

The daemon gives no lease to a feed with `visibility=False`, so that one is broken from within.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

Part: TypeAlias = Literal["visibility", "tokens", "lease"]
PARTS: Final[tuple[Part, ...]] = ("visibility", "tokens", "lease")


def break_readers(part: str | None) -> None:
    """In a process of readers, before they start."""
    if part == "tokens":
        _ignore_tokens()
    elif part == "lease":
        _ignore_the_lease()


def break_daemon(part: str | None) -> None:
    """In the daemon's process, before it starts."""
    if part == "visibility":
        _take_everything_for_visible()


def _take_everything_for_visible() -> None:
    from django_pgnudge.feed.visibility import Snapshot  # noqa: PLC0415

    Snapshot.sees = lambda *_: True  # type: ignore[method-assign]


def _ignore_tokens() -> None:
    """Every value stands on one token that nobody ends."""
    from django_pgnudge.fresh.keys import Names  # noqa: PLC0415 - Django first

    Names.tokens = lambda *_: ("pgnudge:ignored",)  # type: ignore[method-assign]


def _ignore_the_lease() -> None:
    """Whatever lease there was last is trusted for ever."""
    from django_pgnudge.fresh.keys import Lease, Names  # noqa: PLC0415 - Django first

    last: list[Lease] = []
    held = Lease.held

    def held_for_ever(names: Names, found: Mapping[str, Any]) -> Lease | None:
        if (lease := held(names, found)) is not None:
            last[:] = [lease]
        return last[0] if last else None

    Lease.held = held_for_ever  # type: ignore[method-assign]
