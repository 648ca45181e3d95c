"""What PostgreSQL was seen to touch while a value was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.reader.session import SessionView


class Observation:
    """The relations that the computation of one value touched, as OIDs.

    ``why`` says why not everything is known that the value depends on; empty if all is.
    ``calls`` are functions that its statements call and that may read more than rows; see
    `relations`. ``roles`` are the roles it read as. ``by_statement`` has the first statement that
    touched each relation, if ``explains``.
    """

    __slots__ = (
        "before", "by_statement", "calls", "explains", "reason_of_calls", "relations", "roles",
        "view", "why",
    )  # fmt: skip

    def __init__(
        self, reason_of_calls: Callable[[frozenset[str]], str], *, explains: bool = False
    ) -> None:
        self.explains = explains
        self.reason_of_calls = reason_of_calls
        """See `relations.Relations.reason_of_calls`."""
        self.relations: set[int] = set()
        self.before: frozenset[int] = frozenset()
        """What the transaction around the computation had touched before it began."""
        self.by_statement: dict[int, str] = {}
        self.calls: set[str] = set()
        self.roles: set[str] = set()
        self.view: SessionView | None = None
        """What the session saw at the end, if it was asked together with the locks."""
        self.why = ""

    def doubt(self, why: str) -> None:
        """Not all is known: the first reason counts."""
        self.why = self.why or why

    def take(self, relations: frozenset[int], role: str, statement: str | None = None) -> None:
        """PostgreSQL said that these were touched, by this role."""
        self.roles.add(role)
        if statement is not None and self.explains:
            for relation in relations - self.relations - self.before:
                self.by_statement[relation] = statement
        self.relations |= relations


active: Final[set[Observation]] = set()
"""Those of this process that are under way, in any thread."""
