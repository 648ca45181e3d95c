"""From the OIDs that an observation has to the payloads that a value depends on.

PostgreSQL is asked once about each relation and each function, and again in another epoch: when
views, functions or tables were replaced, the daemon begins one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from django_pgnudge.feed.queries import FIRST_USER_OID
from django_pgnudge.memo import Memo
from django_pgnudge.reader.query_watch import unwatched
from django_pgnudge.reader.statements import (
    catches_errors,
    executes,
    may_read,
    more_than_rows,
    writes,
)

if TYPE_CHECKING:
    from django_pgnudge.reader.dependencies import DependencyResolver
    from django_pgnudge.reader.observation import Observation

_MOST_RELATIONS: Final = 20_000
_MOST_FUNCTIONS: Final = 5_000
_DEEPEST: Final = 8
"""Functions and views that call each other are followed so far."""

# A session whose search_path is changed must get the same answer.
_RELATIONS: Final = """
SELECT c.oid::pg_catalog.int8, n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
       c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text,
       c.relrowsecurity, pg_catalog.row_security_active(c.oid), CURRENT_USER::pg_catalog.text,
       CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.int8[]::pg_catalog.oid[])
"""

# What an aggregate consists of counts as the aggregate.
_FUNCTIONS: Final = f"""
SELECT c.proname::pg_catalog.text, p.provolatile::pg_catalog.text, l.lanname::pg_catalog.text,
       p.proparallel OPERATOR(pg_catalog.=) 's'::pg_catalog."char",
       COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)
  FROM pg_catalog.pg_proc c
  LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) c.oid
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) ANY (ARRAY[
       c.oid, a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid,
       a.aggcombinefn::pg_catalog.oid, a.aggmtransfn::pg_catalog.oid,
       a.aggminvtransfn::pg_catalog.oid, a.aggmfinalfn::pg_catalog.oid])
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
 WHERE c.proname OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[]::pg_catalog.name[])
   AND p.oid OPERATOR(pg_catalog.>=) {FIRST_USER_OID}
   AND p.provolatile OPERATOR(pg_catalog.<>) 'i'::pg_catalog."char"
"""  # noqa: S608 - nothing in it comes from outside

_IN_THE_SERVER: Final = ("sql", "plpgsql")
_COMPILED: Final = ("c", "internal")


@dataclass(frozen=True, slots=True)
class Relation:
    """What a relation adds to a value's dependencies: a payload, or a reason against keeping it.

    ``calls`` are functions in a view's query that may read more than rows. ``all_rows_for``
    is the one role that sees all rows, if others may see fewer.
    """

    name: str
    payload: str | None = None
    why: str = ""
    calls: frozenset[str] = frozenset()
    all_rows_for: str | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """The payloads that a value depends on; ``why`` says why these may not be all.

    ``statements`` has the first statement that touched a payload, where that was asked for.
    """

    payloads: frozenset[str]
    why: str
    statements: dict[str, str]


class Relations:
    """The relations and functions of one database alias."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._generation = -1
        self._relations: Memo[int, Relation] = Memo(_MOST_RELATIONS)
        self._functions: Memo[str, tuple[str, frozenset[str]]] = Memo(_MOST_FUNCTIONS)

    def touched(self, observation: Observation, resolver: DependencyResolver) -> Touched:
        """What a computation depends on. Call it in the thread of its connection, at its end."""
        if self._generation != resolver.registry.generation:
            self._relations.clear()
            self._functions.clear()
            self._generation = resolver.registry.generation
        oids = observation.relations - observation.before
        try:
            found = self._of(oids)
            why = observation.why or self._reason(found.values(), observation)
        except Exception as error:  # the connection may be in any state
            return Touched(frozenset(), f"PostgreSQL did not say what it read is ({error})", {})
        payloads = {each.payload: oid for oid, each in found.items() if each.payload is not None}
        lineage = resolver.registry.lineage
        # Whoever reads a table reads all that inherit from it.
        tops = {each for each in payloads if payloads.keys().isdisjoint(lineage(each)[1:])}
        statements = observation.by_statement
        return Touched(
            frozenset(tops),
            why,
            {each: statements[oid] for each, oid in payloads.items() if oid in statements},
        )

    def _of(self, oids: Iterable[int]) -> dict[int, Relation]:
        known = self._relations
        found = {oid: known[oid] for oid in oids if oid in known}
        if missing := [oid for oid in oids if oid not in found]:
            rows = {row[0]: row for row in self._ask(_RELATIONS, missing)}
            for oid in missing:
                if oid in rows:
                    found[oid] = known[oid] = _relation(*rows[oid])
                else:
                    found[oid] = _GONE
        return found

    def _reason(self, relations: Iterable[Relation], observation: Observation) -> str:
        called = set(observation.calls)
        for each in relations:
            if each.why:
                return f"it read {each.name}, {each.why}"
            if each.all_rows_for is not None and observation.roles != {each.all_rows_for}:
                return f"it read {each.name}, {_POLICIES}"
            called |= each.calls
        return self.reason_of_calls(called)

    def reason_of_calls(self, called: Iterable[str]) -> str:
        """Why functions of these names may do more than read rows; empty if none does."""
        called = set(called)
        asked: set[str] = set()
        for _ in range(_DEEPEST):
            called -= asked
            if not called:
                return ""
            self._learn(called)
            asked |= called
            inner: set[str] = set()
            for name in sorted(called):
                why, more = self._functions.get(name, ("", frozenset()))
                if why:
                    return f"the function {name} {why}"
                inner |= more
            called = inner
        return "its functions call each other too deep to be followed"

    def _learn(self, names: Iterable[str]) -> None:
        missing = [name for name in names if name not in self._functions]
        if not missing:
            return
        found: dict[str, tuple[str, frozenset[str]]] = {}
        for name, volatility, language, is_parallel, body in self._ask(_FUNCTIONS, missing):
            why, calls = _why_of(volatility, language, is_parallel, body or "")
            before, more = found.get(name, ("", frozenset()))
            found[name] = (before or why, more | calls)
        for name in missing:
            self._functions[name] = found.get(name, ("", frozenset()))

    def _ask(self, sql: str, names: list[Any]) -> list[Any]:
        # A connection of its own: in an open transaction the catalogs would be among what it read.
        connection = connections[self._using].copy()
        try:
            with unwatched(), connection.cursor() as cursor:
                cursor.execute(sql, [names])
                rows: list[Any] = cursor.fetchall()
                return rows
        finally:
            connection.close()


_POLICIES: Final = "whose row security may show others other rows"

_GONE: Final = Relation("a relation", None, "which is gone, or not committed")


def _relation(
    oid: int,
    schema: str,
    name: str,
    kind: str,
    persistence: str,
    has_policies: bool,
    hides_rows: bool,
    role: str,
    definition: str | None,
) -> Relation:
    payload = f"{schema}.{name}"
    if kind in ("i", "I", "t", "c") or (oid < FIRST_USER_OID and kind == "v" and not definition):
        return Relation(payload)
    if oid < FIRST_USER_OID:
        return Relation(payload, None, "which is the server's own, and has no changes in the log")
    if persistence == "t":
        return Relation(payload, None, "a temporary table")
    if kind == "S":
        return Relation(payload, None, "a sequence, whose changes the log does not show")
    if hides_rows:
        return Relation(payload, None, _POLICIES)
    if kind == "v":
        why, calls = more_than_rows(definition or "")
        said = f"a view that reads {why}" if why else ""
        return Relation(payload, None, said, calls)
    return Relation(payload, payload, all_rows_for=role if has_policies else None)


def _why_of(
    volatility: str, language: str, is_parallel: bool, body: str
) -> tuple[str, frozenset[str]]:
    if (
        is_parallel
        and language not in _COMPILED
        and (language not in _IN_THE_SERVER or may_read(body))
    ):
        # A worker has locks of its own, and releases them when it is done.
        return "is PARALLEL SAFE, and what it reads in a worker is not seen", frozenset()
    if language not in _IN_THE_SERVER:
        return ("is volatile" if volatility == "v" else ""), frozenset()
    if volatility == "v" and writes(body):
        return "may write", frozenset()
    why, calls = more_than_rows(body)
    if language == "plpgsql":
        if catches_errors(body):
            return "catches errors, which hides what it has read before", frozenset()
        if executes(body):
            # Its statements stand in strings.
            inner, more = more_than_rows(body.replace("'", " "))
            why, calls = why or inner, calls | more
    return (f"reads {why}" if why else ""), calls
