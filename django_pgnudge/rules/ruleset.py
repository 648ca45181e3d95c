"""Finds the cache keys that a change deletes. No I/O of its own.

A rule for a model fires for the model's table. With multi-table inheritance it also fires for the
tables of the parents, because a query of the model reads them too. It does not fire for the tables
of children, unless its target is a tree. A rule for ``schema.table`` fires only for that table;
``*`` for the schema or the table means all tables of that name, and ``*`` alone all tables. Every
rule also fires for the table's partitions and for tables that inherit from it in PostgreSQL.

A key that depends on rows becomes a pattern if the rows are unknown: a bulk change, TRUNCATE, or a
primary key that is not the model's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_pgnudge.events import Event
from django_pgnudge.memo import Memo
from django_pgnudge.registry import split_db_table
from django_pgnudge.registry.labels import EVERY_TABLE, is_starred
from django_pgnudge.registry.trees import models_in_tree
from django_pgnudge.rules.binding import Bound, Starred, bind_rule
from django_pgnudge.rules.deletes import Deletes
from django_pgnudge.rules.keyspecs import Function
from django_pgnudge.rules.parsing import CacheRef, Rule, read_rules
from django_pgnudge.tenancy import names_tenants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import Model

    from django_pgnudge.registry import Registry


MOST: Final = 10_000
"""The most tables whose rules are remembered."""


class RuleSet:
    """All rules. After a ``refresh`` of the registry it looks up all tables again."""

    def __init__(self, rules: Iterable[Rule], registry: Registry) -> None:
        self.rules = tuple(rules)
        self._registry = registry
        self._generation = -1
        self._bound: dict[str, list[Bound]] = {}
        self._starred: list[Starred] = []
        self._found: Memo[str, list[Bound]] = Memo(MOST)
        self._tenants: frozenset[str] = frozenset()
        self._by_tenant = frozenset(filter(names_tenants, {rule.ref.alias for rule in self.rules}))
        """The caches whose keys contain the current tenant."""
        self.asks = any(isinstance(spec, Function) for rule in self.rules for spec in rule.specs)
        """Whether a rule has a callable, which may run queries or hang."""
        for rule in self.rules:
            target = rule.target
            if isinstance(target, str) and target.startswith("*.") and target != EVERY_TABLE:
                for payload, _ in self._tables(rule, registry.payload_of(target)):
                    if payload.startswith("*."):
                        registry.look_everywhere(payload)
        self._sync()

    def deletes(self, event: Event, *, ask: bool = True) -> dict[CacheRef, Deletes]:
        """What to delete for a change.

        Runs the callables of the rules. If one raises, this is logged, and more is deleted. Without
        ``ask`` no callable runs, and each one deletes the whole version.
        """
        self._sync()
        registry = self._registry
        root = registry.root_of(event.payload)
        found: dict[CacheRef, Deletes] = {}
        for payload in registry.lineage(event.payload):
            bounds = self._bounds(payload)
            if not bounds:
                continue
            pks = self._pks(event, payload) if any(bound.fills for bound in bounds) else None
            seen = registry.seen_as(event, payload if root == event.payload else root)
            for bound in bounds:
                deletes = bound.deletes(seen, pks, ask=ask)
                for ref in self._refs(bound.rule, bound.tenant):
                    whole = found.setdefault(ref, Deletes())
                    whole.merge(deletes)
                    if bound.rule.again is not None:
                        whole.later.setdefault(bound.rule.again, Deletes()).merge(deletes)
        return found

    def asks_about(self, payload: str) -> bool:
        """Whether a change of this table runs a callable."""
        if not self.asks:
            return False
        self._sync()
        return any(
            isinstance(spec, Function)
            for table in self._registry.lineage(payload)
            for bound in self._bounds(table)
            for spec in bound.specs
        )

    def cache_refs(self) -> frozenset[CacheRef]:
        """Every cache and version that a rule names, for every tenant if keys contain it."""
        self._sync()
        return frozenset(ref for rule in self.rules for ref in self._refs(rule, None))

    def _refs(self, rule: Rule, tenant: str | None) -> list[CacheRef]:
        """The caches of a rule; if keys contain the tenant, for ``tenant``, or all if None."""
        if rule.ref.alias not in self._by_tenant:
            return [rule.ref]
        tenants = self._tenants if tenant is None else {tenant}
        return [dataclasses.replace(rule.ref, tenant=each) for each in sorted(tenants)]

    def everything(self, *, ask: bool = True) -> dict[CacheRef, Deletes]:
        """Everything that the rules can delete. Callables get ``keys=None``, which means any row.

        Without ``ask`` no callable runs, and each one deletes the whole version.
        """
        self._sync()
        found: dict[CacheRef, Deletes] = {}
        for payload, bounds in self._bound.items():
            event = Event(payload, 0.0, 0)
            for bound in bounds:
                if bound.payload == payload:
                    deletes = bound.deletes(event, ask=ask)
                    for ref in self._refs(bound.rule, None):
                        found.setdefault(ref, Deletes()).merge(deletes)
        for starred in self._starred:
            if starred.pattern != starred.target:
                continue
            deletes = Deletes()
            bound = starred.bind_any()
            for spec in bound.specs:
                # A callable needs the name of a real table; for other specs the star is enough.
                tables = self._registry.tables_like(starred.pattern)
                for payload in sorted(tables) if isinstance(spec, Function) else [starred.pattern]:
                    bound.apply(spec, Event(payload, 0.0, 0), None, deletes, ask=ask)
            for ref in self._refs(starred.rule, None):
                found.setdefault(ref, Deletes()).merge(deletes)
        return found

    def wants_keys(self) -> frozenset[str]:
        """The payloads, with partitions, for which the rules use primary keys."""
        self._sync()
        tables = {
            payload
            for payload in self.payloads()
            if any(bound.wants_keys() for bound in self._bounds(payload))
        }
        return frozenset(tables.union(*(self._registry.descendants(table) for table in tables)))

    def wants_keys_of_any(self) -> bool:
        """Whether rules use primary keys of tables that may be created later."""
        self._sync()
        return any(starred.bind_any().wants_keys() for starred in self._starred)

    def payloads(self) -> frozenset[str]:
        """The known tables and own nudges that fire a rule."""
        self._sync()
        known = (self._registry.tables_like(starred.pattern) for starred in self._starred)
        return frozenset(self._bound).union(*known)

    def _bounds(self, payload: str) -> list[Bound]:
        """The bound rules that a table or own nudge fires."""
        exact = self._bound.get(payload, [])
        if not self._starred:
            return exact
        found = self._found.get(payload)
        if found is None:
            here = self._registry.split(payload)
            bound = (starred.bind(payload, *here) for starred in self._starred)
            found = [*exact, *(each for each in bound if each is not None)]
            self._found[payload] = found
        return found

    def _pks(self, event: Event, table: str) -> list[tuple[Any, ...]] | None:
        """The primary keys of the rows in ``table``, which is one of the lineage."""
        if event.keys is None:
            return None
        pks = []
        for key in event.keys:
            values = self._registry.pk_values(event.payload, key, table)
            if values is None:
                return None
            pks.append(values)
        return pks

    def _sync(self) -> None:
        generation = self._registry.generation
        if generation == self._generation:
            return
        bound: dict[str, list[Bound]] = {}
        starred: list[Starred] = []
        for rule in self.rules:
            target = self._registry.payload_of(rule.target)
            schema, table = self._registry.split(target)
            for payload, rowwise in self._tables(rule, target):
                if is_starred(payload):
                    starred.append(Starred(rule, target, payload, rowwise))
                else:
                    one = bind_rule(rule, target, schema, table, rowwise=rowwise)
                    bound.setdefault(payload, []).append(one)
        self._bound, self._starred, self._generation = bound, starred, generation
        self._found.clear()
        self._tenants = self._registry.schemas() | {
            getattr(settings, "PUBLIC_SCHEMA_NAME", "public")
        }

    def _tables(self, rule: Rule, target: str) -> Iterator[tuple[str, bool]]:
        """The tables that fire a rule, and whether each has the primary key of its model."""
        entry, everywhere = rule.target, target.startswith("*.")
        yield target, True
        top = self._registry.model_of(entry) if isinstance(entry, str) else entry
        if top is None:
            return
        seen = {top._meta.concrete_model}
        for model in models_in_tree(top) if rule.is_tree else (top,):
            for each in (model, *model._meta.all_parents):
                if each._meta.proxy or each._meta.concrete_model in seen:
                    continue
                seen.add(each._meta.concrete_model)
                payload = self._registry.payload_of(each)
                schema, table = split_db_table(each._meta.db_table)
                if everywhere and schema is None:
                    payload = f"*.{table}"
                yield payload, shares_pk(top, each) or shares_pk(each, top)


def shares_pk(model: type[Model], parent: type[Model]) -> bool:
    """Whether a row has the same primary key in the tables of ``model`` and ``parent``."""
    current: type[Model] | None = model._meta.concrete_model
    while current is not None and current is not parent:
        pk = current._meta.pk
        remote = pk.remote_field if pk is not None else None
        if remote is None or not getattr(remote, "parent_link", False):
            return False
        current = remote.model._meta.concrete_model
    return current is parent


def load_rules(registry: Registry) -> RuleSet:
    """The rules of ``PGNUDGE["INVALIDATE"]`` and of all ``cachekeys.py``.

    Raises ImproperlyConfigured.
    """
    rules, problems = read_rules(registry)
    if problems:
        raise ImproperlyConfigured(" ".join(f"{found.message} {found.hint}" for found in problems))
    return RuleSet(rules, registry)
