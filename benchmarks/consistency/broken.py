"""Takes one part of the promise away, to see whether the checker notices.

`visibility` is a setting of the feed; the other two are what readers do.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Part: TypeAlias = Literal["visibility", "tokens", "lease"]
PARTS: Final[tuple[Part, ...]] = ("visibility", "tokens", "lease")


def break_readers(part: str | None) -> None:
    """In a process of readers, before they start."""
    if part == "tokens":
        _ignore_tokens()
    elif part == "lease":
        _ignore_the_lease()


def _ignore_tokens() -> None:
    from django_pgnudge.nudged.keys import Names  # noqa: PLC0415 - Django first

    Names.tokens = lambda _self, _dependency: ()  # type: ignore[method-assign]


def _ignore_the_lease() -> None:
    raise NotImplementedError
