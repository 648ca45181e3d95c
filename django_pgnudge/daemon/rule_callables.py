"""What a batch kills, with the callables of rules asked in a thread, and not for ever.

A callable may query, so it must not run on the loop; and one that hangs must not keep the feed from
being read. While it does, whatever only it could name is taken for everything.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final

from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.log import get_logger
from django_pgnudge.signals import between_requests
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_pgnudge.events import Event
    from django_pgnudge.rules import RuleSet

logger = get_logger("django_pgnudge.daemon")

PATIENCE: Final = 5.0
"""Seconds a batch waits for the callables of its rules."""


class RuleCallables:
    """Turns events into work for caches."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._thread = Thread("pgnudge rules")
        self._late: asyncio.Future[dict[str, Invalidation]] | None = None

    async def invalidations(self, events: Iterable[Event]) -> dict[str, Invalidation]:
        """What to delete, by cache alias."""
        if self._late is not None:
            if not self._late.done():
                return self.invalidations_at_once(events)
            self._late.result()
            self._late = None
            logger.warning("The callables of rules answer again.")
        answer = self._thread.run(functools.partial(_works_by_code, self._rules, events))
        done, _ = await asyncio.wait([answer], timeout=PATIENCE)
        if done:
            return answer.result()
        self._late = answer
        warn_of_silence(PATIENCE)
        return self.invalidations_at_once(events)

    def invalidations_at_once(self, events: Iterable[Event]) -> dict[str, Invalidation]:
        """The same without asking: for rules without callables it is the same."""
        return _works(self._rules, events, ask=False)


def warn_of_silence(seconds: float) -> None:
    """Say that a callable hangs, and what that costs."""
    logger.error(
        "A callable of PGNUDGE's rules has not returned for %g s. Until it does, a change it is "
        "asked about clears its whole cache and version.", seconds,
    )  # fmt: skip


def _works(rules: RuleSet, events: Iterable[Event], *, ask: bool) -> dict[str, Invalidation]:
    invalidations: dict[str, Invalidation] = {}
    for event in events:
        for ref, kills in rules.kills(event, ask=ask).items():
            invalidations.setdefault(ref.alias, Invalidation()).add(ref, kills)
    return invalidations


def _works_by_code(rules: RuleSet, events: Iterable[Event]) -> dict[str, Invalidation]:
    with between_requests():
        return _works(rules, events, ask=True)
