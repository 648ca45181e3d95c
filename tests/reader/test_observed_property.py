"""Whatever functions read, and however: what is kept is true, and ends with what it read only.

Random relations over random relations, random functions over these, random writes.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_pgnudge import nudged
from django_pgnudge.reader.state import reader_state
from tests.reader.test_observed import Observed, execute

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = [pytest.mark.usefixtures("real_sessions"), pytest.mark.slow]

_numbers = itertools.count()


@dataclass
class Relation:
    """A relation, and the tables that a query of it reads."""

    name: str
    tables: frozenset[str]


@dataclass
class World:
    """A schema of its own, with everything in it."""

    name: str
    relations: list[Relation] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)

    def add(self, kind: str, below: Relation | None) -> None:
        name = f"r{len(self.relations)}"
        whole = f"{self.name}.{name}"
        tables = {whole}
        if kind == "table":
            execute(f"CREATE TABLE {whole} (id int, n int)")
            self.writable.append(whole)
        elif kind == "partitioned":
            execute(f"CREATE TABLE {whole} (id int, n int) PARTITION BY RANGE (id)")
            for part in (0, 1):
                execute(
                    f"CREATE TABLE {whole}_{part} PARTITION OF {whole}"
                    f" FOR VALUES FROM ({part * 500}) TO ({part * 500 + 500})"
                )
            self.writable += [whole, f"{whole}_1"]
        elif kind == "inherited":
            execute(f"CREATE TABLE {whole} (id int, n int)")
            execute(f"CREATE TABLE {whole}_child () INHERITS ({whole})")
            self.writable += [whole, f"{whole}_child"]
        elif below is not None:
            tables = set(below.tables)
            read = f"SELECT id, n FROM {below.name}"
            if kind == "view":
                execute(f"CREATE VIEW {whole} AS {read}")
            elif kind == "ruled":
                execute(f"CREATE VIEW {whole} AS {read} WHERE id >= 0 UNION ALL {read} WHERE false")
            else:
                language, body = "sql", read
                if kind == "plpgsql":
                    language, body = "plpgsql", f"BEGIN RETURN QUERY {read}; END"
                elif kind == "dynamic":
                    language, body = "plpgsql", f"BEGIN RETURN QUERY EXECUTE '{read}'; END"
                execute(
                    f"CREATE FUNCTION {whole}() RETURNS TABLE (id int, n int)"
                    f" LANGUAGE {language} STABLE AS $$ {body} $$"
                    if kind != "plpgsql"
                    else f"CREATE FUNCTION {whole}() RETURNS TABLE (id int, n int)"
                    f" LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN QUERY"
                    f" SELECT q.id, q.n FROM {below.name} q; END $$"
                )
                whole += "()"
        self.relations.append(Relation(whole, frozenset(tables)))


BASES = ("table", "table", "partitioned", "inherited")
ABOVE = ("view", "ruled", "sql", "plpgsql", "dynamic")
WAYS = ("plain", "atomic", "savepoint", "thread", "cursor", "path", "inside", "caught")


def read_plain(world: World, relation: Relation) -> Any:
    return sorted(execute(f"SELECT id, n FROM {relation.name}"))


def read(world: World, relation: Relation, way: str) -> Any:
    """The rows of a relation; the order tells nothing."""
    if way == "atomic":
        with transaction.atomic():
            return read_plain(world, relation)
    if way == "savepoint":
        with transaction.atomic():
            point = transaction.savepoint()
            found = read_plain(world, relation)
            transaction.savepoint_rollback(point)
        return found
    if way == "caught":
        with pytest.raises(KeyError), transaction.atomic():
            found = read_plain(world, relation)
            raise KeyError
        return found
    if way == "thread":
        results: list[Any] = []

        def work() -> None:
            try:
                results.append(read_plain(world, relation))
            finally:
                connections.close_all()

        thread = threading.Thread(target=copy_context().run, args=[work])
        thread.start()
        thread.join()
        return results[0]
    if way == "cursor":
        with connection.chunked_cursor() as cursor:
            cursor.execute(f"SELECT id, n FROM {relation.name}")
            return sorted([tuple(row) for row in cursor])
    if way == "path":
        # Found by search_path, which a function of the server has set for itself.
        return sorted(execute(f"SELECT id, n FROM {relation.name} WHERE n >= 0"))
    if way == "inside":
        return nudged.get_or_set(f"inside {relation.name}", lambda: read_plain(world, relation))
    return read_plain(world, relation)


def write(table: str, number: int, how: str) -> None:
    low = 500 if table.endswith("_1") else 0
    if how == "insert":
        execute(f"INSERT INTO {table} VALUES ({low + number % 100}, {number})")
    elif how == "update":
        execute(f"UPDATE {table} SET n = {number}")
    elif how == "delete":
        execute(f"DELETE FROM {table}")
    else:
        execute(f"TRUNCATE {table}")


def tell(fake: NudgeFake, table: str) -> None:
    """As the daemon does: a change is one of all tables that its rows are read through."""
    registry = reader_state("default").tables.registry
    for each in registry.lineage(table):
        fake.changed(each)
    # A statement that names a parent changes the tables below it.
    for each in registry.descendants(table):
        fake.changed(each)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_what_is_kept_is_true_and_ends_with_what_it_read_only(
    nudge_fake: NudgeFake, data: st.DataObject
) -> None:
    draw: Callable[..., Any] = data.draw
    world = World(f"world_{next(_numbers)}")
    execute(f"CREATE SCHEMA {world.name}")
    try:
        for _ in range(draw(st.integers(2, 4))):
            world.add(draw(st.sampled_from(BASES)), None)
        for _ in range(draw(st.integers(0, 4))):
            world.add(draw(st.sampled_from(ABOVE)), draw(st.sampled_from(world.relations)))
        # The catalogs changed: the daemon begins an epoch, and readers read them again.
        nudge_fake.resync()
        steps = draw(
            st.lists(
                st.tuples(st.sampled_from(world.relations), st.sampled_from(WAYS)),
                min_size=1, max_size=4,
            )
        )  # fmt: skip
        tables = frozenset().union(*(relation.tables for relation, _ in steps))

        def compute() -> Any:
            return [read(world, relation, way) for relation, way in steps]

        value = Observed(compute, world.name)
        for _ in range(3):  # also the values inside have to be learned
            value()
        assert value.is_kept()
        registry = reader_state("default").tables.registry
        for number in range(draw(st.integers(1, 5))):
            table = draw(st.sampled_from(world.writable))
            write(table, number, draw(st.sampled_from(("insert", "update", "delete", "truncate"))))
            tell(nudge_fake, table)
            before = value.calls
            assert value() == [read_plain(world, relation) for relation, _ in steps]
            if tables.isdisjoint({*registry.lineage(table), *registry.descendants(table)}):
                assert value.calls == before
            for _ in range(2):
                value()
            assert value.is_kept()
    finally:
        execute(f"DROP SCHEMA {world.name} CASCADE")
