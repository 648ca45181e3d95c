"""What is done with what a computation was seen to touch: see `protocol.Observer`.

`ValueObserver` makes it the dependencies of the value. `DeclaredObserver` compares it with the
dependencies that somebody has named, and says which are missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from django_pgnudge.conf import conf
from django_pgnudge.errors import UndeclaredError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.reader.entries import MOST_TOKENS, Plan, Stamp

if TYPE_CHECKING:
    from django_pgnudge.reader.dependencies import DependencyResolver
    from django_pgnudge.reader.keys import Names
    from django_pgnudge.reader.protocol import Computed
    from django_pgnudge.reader.relations import Touched
    from django_pgnudge.reader.state import ReaderState

logger = get_logger("django_pgnudge.nudged")

_LONGEST_STATEMENT: Final = 300
_NOTHING: Final = "it read nothing in the database, so nothing tells when it changes"


class ValueObserver:
    """For a value that depends on what it reads.

    ``vouch`` is asked about the stamp to store, if it is only then known whether it may be.
    ``why`` says which table is not in the stream, if that has kept the value from being stored.
    """

    def __init__(
        self,
        what: str,
        family: str,
        state: ReaderState,
        names: Names,
        *,
        knows: bool,
        plan_again: Callable[[], Plan | None],
        vouch: Callable[[Stamp], bool] | None = None,
    ) -> None:
        self.key = names.learned(family)
        self.knows = knows
        self.why = ""
        self._what = what
        self._family = family
        self._state = state
        self._plan_again = plan_again
        self._vouch = vouch

    def recall(self, listed: object) -> Plan | None:
        """A new plan, for the tables that another process has listed."""
        if not isinstance(listed, list) or len(listed) > MOST_TOKENS:
            return None
        if not all(isinstance(each, str) for each in listed):
            return None
        self._state.learned.learn(self._family, frozenset(listed))
        return self._plan_again()

    def learn(self, touched: Touched) -> list[str] | None:
        """Assume these tables for the next run. What has a reason not to be kept teaches nothing:
        it may have been cut short, and it would be learned for nothing."""
        if touched.why or not self._state.learned.learn(self._family, touched.payloads):
            return None
        return sorted(self._state.learned.of(self._family) or ())

    def doubt(self, computed: Computed) -> str:
        """Why this may not be all that it depends on."""
        assert computed.touched is not None
        stands_on = computed.touched.payloads or any(each.tokens for each in computed.others)
        return computed.touched.why or ("" if stands_on else _NOTHING)

    def narrow(self, plan: Plan, whole: Stamp, computed: Computed) -> Stamp | None:
        """The stamp with the tokens of just those tables that were read."""
        if computed.touched is None:
            return None
        needed = {plan.names.table(each): each for each in computed.touched.payloads}
        if not needed.keys() <= whole.tokens.keys():
            logger.debug(
                "nudged: %s read %s for the first time, so it is kept from the next time on.",
                self._what,
                ", ".join(needed[key] for key in sorted(needed.keys() - whole.tokens.keys())),
            )
            return None
        coverage = self._state.coverages.get(whole.coverage)
        uncovered = ["it"] if coverage is None else sorted(frozenset(needed.values()) - coverage)
        if uncovered:
            self.why = f"it read {', '.join(uncovered)}, whose changes the stream does not carry"
            if may_log(f"uncovered {self._what}"):
                logger.warning(
                    "nudged: %s read %s, whose changes the stream does not carry, so it is called"
                    " each time. A table is carried if TABLES and EXCLUDE of PGNUDGE let it in and"
                    " the publication has it, if there is one; a foreign table, a materialized"
                    " view and an unlogged table never are.",
                    self._what,
                    ", ".join(uncovered),
                )
            return None
        keys = {*plan.required, *needed}
        for other in computed.others:
            keys.update(other.tokens)
        tokens = {key: whole.tokens[key] for key in keys}
        stamp = Stamp(whole.epoch, whole.coverage, tokens)
        return stamp if self._vouch is None or self._vouch(stamp) else None


class DeclaredObserver:
    """For a value whose dependencies are named: says which it reads and does not name."""

    knows = True

    def __init__(self, what: str, resolver: DependencyResolver, names: Names, how: str) -> None:
        self.key = names.learned(what)
        self._what = what
        self._resolver = resolver
        self._how = how

    def recall(self, listed: object) -> Plan | None:
        """Nothing is to be recalled."""
        return None

    def learn(self, touched: Touched) -> list[str] | None:
        """Nothing is to be learned."""
        return None

    def doubt(self, computed: Computed) -> str:
        """What it depends on is named, whatever else was seen."""
        return ""

    def narrow(self, plan: Plan, whole: Stamp, computed: Computed) -> Stamp | None:
        """The same stamp. Raises UndeclaredError if ``OBSERVE`` is "raise"."""
        assert computed.touched is not None
        registry = self._resolver.registry
        for payload in sorted(computed.touched.payloads):
            above = registry.lineage(payload)
            if any(self._names(plan, whole, table) for table in above):
                continue
            models = registry.models_of(payload)
            label = models[0]._meta.label if models else payload
            statement = computed.touched.statements.get(payload, "")
            words = (
                f"nudged: {self._what} reads {label} and does not depend on it, so a change to it"
                f" would not end the value. Name it: nudged({label!r}, …), or leave out all names,"
                " and the value depends on what it reads."
                + (f" The statement: {_shortened(statement)}" if statement else "")
            )
            if self._how == "raise":
                raise UndeclaredError(words)
            if may_log(f"undeclared {self._what} {payload}"):
                logger.warning("%s", words)
        return whole

    @staticmethod
    def _names(plan: Plan, whole: Stamp, payload: str) -> bool:
        # Whoever depends on a row of a table has named the table.
        names = plan.names
        return not whole.tokens.keys().isdisjoint((names.table(payload), names.bulk(payload)))


def how_to_check(state: ReaderState) -> str:
    """What to do about the declared dependencies of the value that is computed now.

    One of ``"warn"``, ``"raise"`` and ``"off"``.
    """
    how: Any = conf.NUDGED["OBSERVE"]
    if how is None:
        how = "warn" if settings.DEBUG or state.is_of_tests else "off"
    if isinstance(how, float | int):
        how = "warn" if random.random() < how else "off"  # noqa: S311 - a sample, no secret
    return str(how)


def _shortened(statement: str) -> str:
    if len(statement) <= _LONGEST_STATEMENT:
        return statement
    return statement[:_LONGEST_STATEMENT] + "…"
