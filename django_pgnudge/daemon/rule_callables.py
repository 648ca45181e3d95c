"""What a change deletes, with the callables of rules asked in a thread, and not for ever.

A callable may query, so it must not run on the loop; and one that hangs must not stop the reading
of the feed. While it does, whatever only it could name is taken for everything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.log import get_logger
from django_pgnudge.signals import between_requests
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from django_pgnudge.events import Event
    from django_pgnudge.rules import CacheRef, Deletes, RuleSet

logger = get_logger("django_pgnudge.daemon")

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds a batch, or a Resync, waits for the callables of rules."""


class RuleCallables:
    """Asks the rules, in one thread that may hang."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._thread = Thread("pgnudge rules")
        self._late: Future[Any] | asyncio.Future[Any] | None = None
        """What was waited for in vain."""

    async def invalidations(self, events: Iterable[Event]) -> dict[str, Invalidation]:
        """What to delete, by cache alias."""
        if self._hang():
            return self.invalidations_at_once(events)
        answer = self._thread.run(lambda: self._asked(lambda: self._deletes(events, ask=True)))
        done, _ = await asyncio.wait([answer], timeout=PATIENCE)
        if done:
            return answer.result()
        self._give_up(answer)
        return self.invalidations_at_once(events)

    def invalidations_at_once(self, events: Iterable[Event]) -> dict[str, Invalidation]:
        """The same without asking: for rules without callables it is the same."""
        return self._deletes(events, ask=False)

    def everything(self) -> dict[CacheRef, Deletes]:
        """All that the rules can delete. Blocks: not to be called from the loop."""
        if not self._rules.asks:
            return self._rules.everything()
        if not self._hang():
            answer = self._thread.submit(lambda: self._asked(self._rules.everything))
            try:
                return answer.result(PATIENCE)
            except TimeoutError:
                if answer.done():
                    raise
                self._give_up(answer)
        return self._rules.everything(ask=False)

    def _hang(self) -> bool:
        late = self._late
        if late is None:
            return False
        if not late.done():
            return True
        late.result()
        self._late = None
        logger.warning("The callables of rules answer again.")
        return False

    def _give_up(self, answer: Future[Any] | asyncio.Future[Any]) -> None:
        self._late = answer
        logger.error(
            "A callable of PGNUDGE's rules has not returned for %g s. Until it does, a change it is"
            " asked about clears its whole cache and version.", PATIENCE,
        )  # fmt: skip

    @staticmethod
    def _asked(ask: Callable[[], T]) -> T:
        with between_requests():
            return ask()

    def _deletes(self, events: Iterable[Event], *, ask: bool) -> dict[str, Invalidation]:
        invalidations: dict[str, Invalidation] = {}
        for event in events:
            for ref, deletes in self._rules.deletes(event, ask=ask).items():
                invalidations.setdefault(ref.alias, Invalidation()).add(ref, deletes)
        return invalidations
