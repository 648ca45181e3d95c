"""A rule bound to a table that fires it, and what it deletes for a change of that table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_pgnudge.log import get_logger
from django_pgnudge.registry.labels import EVERY_TABLE, is_meant
from django_pgnudge.rules.deletes import Deletes
from django_pgnudge.rules.keyspecs import Fixed, Function, KeySpec, Pattern, Template, parse_result

if TYPE_CHECKING:
    from django_pgnudge.events import Event
    from django_pgnudge.rules.parsing import Rule

logger = get_logger("django_pgnudge.rules")


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule bound to a table that fires it.

    ``rowwise`` is False if the table's primary key is not that of the rule's model.
    """

    rule: Rule
    payload: str
    specs: tuple[KeySpec, ...]
    rowwise: bool
    fills: bool
    """Whether it has templates to fill in with primary keys."""
    tenant: str | None = None
    """The table's schema, if the rule is for each tenant's schema."""

    def wants_keys(self) -> bool:
        return self.rowwise and any(isinstance(spec, Template | Function) for spec in self.specs)

    def deletes(
        self, event: Event, pks: list[tuple[Any, ...]] | None = None, *, ask: bool
    ) -> Deletes:
        """What the rule deletes for a change; ``pks`` are the rows, None if they are unknown."""
        deletes = Deletes()
        for spec in self.specs:
            self.apply(spec, event, pks, deletes, ask=ask)
        return deletes

    def apply(
        self, spec: KeySpec, event: Event, pks: list[tuple[Any, ...]] | None, deletes: Deletes,
        *, ask: bool,
    ) -> None:  # fmt: skip
        """Add what one of the keys of the rule deletes."""
        if isinstance(spec, Fixed | Pattern):
            deletes.add(spec)
        elif isinstance(spec, Function):
            if ask:
                self._call(spec, event, deletes)
            else:
                deletes.whole = True
        elif pks is None or not self.rowwise:
            deletes.add(spec.widen())
        else:
            try:
                for key in map(spec.fill, pks):
                    deletes.add(Pattern(key) if spec.is_glob else Fixed(key))
            except IndexError:  # {pk[1]} with a key of one column; a system check reports it
                deletes.add(spec.widen())

    def _call(self, spec: Function, event: Event, deletes: Deletes) -> None:
        """Add what a callable returns.

        If it raises, it is called again for the whole table. If that raises too, its keys are
        unknown, and the whole version of the cache is deleted.
        """
        if not self.rowwise and event.keys is not None:
            event = dataclasses.replace(event, keys=None)
        try:
            for found in parse_result(spec.call(event)):
                deletes.add(found)
        except BaseException:
            # Even a sys.exit() in a callable must not lose the change or end the daemon.
            if event.keys is not None:
                logger.exception(
                    "%s: %s raised for %d rows of %s; asking it for the whole table",
                    self.rule.where, spec.name, len(event.keys), event.payload,
                )  # fmt: skip
                self._call(spec, dataclasses.replace(event, keys=None), deletes)
                return
            logger.exception(
                "%s: %s raised for the whole of %s; deleting all keys of cache %r, version %s",
                self.rule.where, spec.name, event.payload, self.rule.ref.alias,
                self.rule.ref.version,
            )  # fmt: skip
            deletes.whole = True


@dataclass(frozen=True, slots=True)
class Starred:
    """A rule for all tables of a name, bound to each table when that first fires it.

    ``pattern`` is the ``target``, or the pattern of a parent of its model.
    """

    rule: Rule
    target: str
    pattern: str
    rowwise: bool

    def bind(self, payload: str, schema: str, table: str) -> Bound | None:
        """The rule bound to this table; None if the table does not fire it."""
        if not schema or not is_meant(self.pattern, schema, table):
            return None
        if self.pattern != self.target:
            table = self.target.partition(".")[2]
        bound = bind_rule(self.rule, payload, schema, table, rowwise=self.rowwise)
        # A table of any schema may be shown to any tenant.
        of_tenant = self.pattern.startswith("*.") and self.pattern != EVERY_TABLE
        return dataclasses.replace(bound, tenant=schema) if of_tenant else bound

    def bind_any(self) -> Bound:
        """The rule bound to all its tables together."""
        schema, _, table = self.target.partition(".")
        return bind_rule(self.rule, self.target, schema, table, rowwise=self.rowwise)


def bind_rule(rule: Rule, payload: str, schema: str, table: str, *, rowwise: bool) -> Bound:
    specs = tuple(
        spec.bind(schema, table) if isinstance(spec, Template) else spec for spec in rule.specs
    )
    fills = rowwise and any(isinstance(spec, Template) for spec in specs)
    return Bound(rule, payload, specs, rowwise, fills)
