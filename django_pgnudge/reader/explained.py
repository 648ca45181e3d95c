"""Which tables a request has read, from the texts of its statements: see `transcript`.

PostgreSQL is asked, by EXPLAIN in a transaction of its own, which it ends by ROLLBACK: to plan a
query it locks every relation that the query reads, also behind views. It does not run the query, so
what a function would read is not seen. A text is refused if it calls a function, or uses an
operator or a cast, that is not PostgreSQL's own and not immutable. The text and the plan are both
looked at: a text may call a function as ``row.name``, and a plan does not show everything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from django.db import connections

from django_pgnudge.feed.queries import FIRST_USER_OID
from django_pgnudge.memo import Memo
from django_pgnudge.reader.query_watch import unwatched
from django_pgnudge.reader.session import LOCKED, OWN_LOCKS
from django_pgnudge.reader.statements import (
    ENDS,
    READS,
    alters_session,
    calls_in,
    first_word,
    is_one_statement,
    more_than_arguments,
    more_than_rows,
    operators_in,
    selects_into,
)
from django_pgnudge.registry.catalog import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.reader.observation import Observation
    from django_pgnudge.reader.scope import Scope
    from django_pgnudge.reader.transcript import Statement, Transcript

MOST_TEXTS: Final = 5_000

_LOCKS: Final = f"""
SELECT {LOCKED},
       EXISTS (SELECT FROM {OWN_LOCKS} AND l.mode OPERATOR(pg_catalog.<>) 'AccessShareLock'),
       CURRENT_USER::pg_catalog.text
"""  # noqa: S608 - nothing in it comes from outside

# An aggregate is "immutable" whatever its own functions are.
_MAY_READ: Final = f"""
    p.oid OPERATOR(pg_catalog.>=) {FIRST_USER_OID}
    AND (p.provolatile OPERATOR(pg_catalog.<>) 'i'::pg_catalog."char"
         OR p.prokind OPERATOR(pg_catalog.=) 'a'::pg_catalog."char")
"""

_UNSURE: Final = """
SELECT ARRAY(
    SELECT p.proname::pg_catalog.text FROM pg_catalog.pg_proc p
     WHERE p.proname OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[]::pg_catalog.name[])
       AND {may_read}
    UNION
    SELECT p.proname::pg_catalog.text
      FROM pg_catalog.pg_rewrite r
      JOIN pg_catalog.pg_depend d
        ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
       AND d.objid OPERATOR(pg_catalog.=) r.oid
      LEFT JOIN pg_catalog.pg_operator o
        ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass
       AND d.refobjid OPERATOR(pg_catalog.=) o.oid
      JOIN pg_catalog.pg_proc p
        ON p.oid OPERATOR(pg_catalog.=) o.oprcode
        OR (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND p.oid OPERATOR(pg_catalog.=) d.refobjid)
     WHERE r.ev_class OPERATOR(pg_catalog.=)
           ANY (%s::pg_catalog.int8[]::pg_catalog.oid[])
       AND {may_read}),
    ARRAY(
    SELECT o.oprname::pg_catalog.text
      FROM pg_catalog.pg_operator o
      JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode
     WHERE {may_read}),
    EXISTS (
    SELECT FROM pg_catalog.pg_cast c
      JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.castfunc
     WHERE {may_read}),
    EXISTS (
    SELECT FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_depend d
        ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
       AND d.objid OPERATOR(pg_catalog.=) c.oid
       AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
      JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid
     WHERE c.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND {may_read})
""".replace("{may_read}", _MAY_READ)

_ELSEWHERE: Final = "a statement queried the database {!r}"

_EVERYWHERE: Final = frozenset({"=", "<", ">"})
"""Operators that a query may use without having written them."""


class _Touched(NamedTuple):
    """What one text reads; ``why`` says why that is not known."""

    relations: frozenset[int] = frozenset()
    role: str = ""
    why: str = ""


_Key: TypeAlias = "tuple[int, Scope, str]"


class ExplainedTexts:
    """What the texts read that requests have run on one database alias."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._known: Memo[_Key, _Touched] = Memo(MOST_TEXTS)

    def add_to(
        self, observation: Observation, transcript: Transcript, generation: int, scope: Scope
    ) -> None:
        """Let a computation depend on all that was run before it, or say why it cannot.

        ``generation`` is that of the registry: in another one, views may be others.
        """
        if transcript.why:
            observation.doubt(transcript.why)
        for other, using in list(transcript.observations.items()):
            if other is observation:
                continue
            if using != self._using:
                observation.doubt(_ELSEWHERE.format(using))
            observation.relations |= other.relations
            observation.calls |= other.calls
            observation.roles |= other.roles
            if other.why:
                observation.doubt(f"of what the request had computed before, {other.why}")
        try:
            for touched in self._of(transcript, generation, scope):
                if touched.why:
                    observation.doubt(f"of what the request had run before, {touched.why}")
                    return
                if touched.relations:
                    observation.take(touched.relations, touched.role)
        except Exception as error:  # the text may be wrong, or the server away
            observation.doubt(f"PostgreSQL did not say what the request had read before ({error})")

    def _of(self, transcript: Transcript, generation: int, scope: Scope) -> Iterator[_Touched]:
        with _Explainer(self._using, scope) as explainer:
            for each in list(transcript):
                if each.using != self._using:
                    yield _Touched(why=_ELSEWHERE.format(each.using))
                elif each.scope != scope:
                    yield _Touched(why=f"a statement queried the schemas {each.scope!r}")
                elif not each.is_plain():
                    yield explainer.touched_by(each)
                else:
                    key = generation, scope, each.sql
                    found = self._known.get(key)
                    if found is None:
                        found = self._known[key] = explainer.touched_by(each)
                    yield found


class _Explainer:
    """A connection of its own, opened if it is needed."""

    def __init__(self, using: str, scope: Scope) -> None:
        self._connection = connections[using].copy()
        self._scope = scope

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection.connection is not None:
            self._connection.close()

    def touched_by(self, statement: Statement) -> _Touched:
        with unwatched():
            self._connection.ensure_connection()
            if not self._connection.get_autocommit():
                self._connection.set_autocommit(True)
            raw = self._connection.connection
            sql = statement.sql if isinstance(statement.sql, str) else statement.sql.as_string(raw)
            word = first_word(sql)
            if word in ENDS and is_one_statement(sql):
                return _Touched()
            if (
                word not in READS
                or statement.many
                or not is_one_statement(sql)
                or selects_into(sql)
                or alters_session(sql, statement.params)
            ):
                return _Touched(why=f"a statement may have done more than read ({word.upper()})")
            why, calls = more_than_rows(sql)
            if why:
                return _Touched(why=f"a statement read {why}, and not only rows")
            with raw.cursor() as cursor:
                return self._explained(cursor, sql, statement.params, calls)

    def _explained(self, cursor: Any, sql: str, params: Any, calls: frozenset[str]) -> _Touched:
        cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY")
        try:
            if self._scope is not None:
                path = ", ".join(map(quote_identifier, self._scope))
                cursor.execute(
                    "SELECT pg_catalog.set_config('search_path', %s::pg_catalog.text, true)", [path]
                )
            explain = f"EXPLAIN (VERBOSE, COSTS OFF) {sql}"
            if params is None:
                cursor.execute(explain)
            else:
                cursor.execute(explain, params)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            cursor.execute(_LOCKS)
            ((relations, locks_more, role),) = cursor.fetchall()
        finally:
            with suppress(Exception):
                cursor.execute("ROLLBACK")
        if locks_more:
            return _Touched(why="a statement did more than read")
        calls |= calls_in(plan)
        if why := more_than_arguments(calls):
            return _Touched(why=f"a statement read {why}, and not only rows")
        cursor.execute(_UNSURE, [sorted(calls), relations])
        ((functions, operators, casts, domains),) = cursor.fetchall()
        used = operators_in(sql) | operators_in(plan)
        unsure = sorted({*functions, *used.intersection(operators)})
        unsure += sorted(_EVERYWHERE.intersection(operators))
        if unsure or casts or domains:
            what = unsure[0] if unsure else "a cast" if casts else "the constraint of a domain"
            return _Touched(
                why=f"what {what} reads is only seen while it runs, since it is neither"
                " PostgreSQL's own nor immutable"
            )
        return _Touched(frozenset(relations), role)
