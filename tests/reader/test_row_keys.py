"""rowkeys on real servers: a row has the name that its change has, or none."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_pgnudge.feed import WalFeed
from django_pgnudge.reader.dependencies import DependencyResolver, Row
from django_pgnudge.reader.keys import Names, ended_tokens
from django_pgnudge.registry import Registry
from tests.feed.following import following, run
from tests.shop.models import Coupon

if TYPE_CHECKING:
    from django_pgnudge.events import Event
    from tests.fix_servers import Database, FeedServer

END = "SELECT pg_logical_emit_message(true, 'pgnudge', 'the end')"
NAMES = Names("default")
UUID = uuid.UUID("0b4e8c2a-0000-4000-8000-00000000000a")
CEST = dt.timezone(dt.timedelta(hours=2))


class Code(str, enum.Enum):  # noqa: UP042 - its str() is "Code.A"
    A = "a"


class Choice(models.TextChoices):
    A = "a"


class Lower(models.CharField):
    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(value).lower()


@dataclass(frozen=True)
class Case:
    """A key of that type, ``value`` to Django and ``literal`` in SQL."""

    type: str
    field: models.Field[Any, Any]
    value: Any
    literal: str
    certain: bool = True
    needs: str = ""
    """SQL without which the server cannot have the type."""


def char(**options: Any) -> models.Field[Any, Any]:
    return models.CharField(max_length=20, **options)


def number() -> models.Field[Any, Any]:
    return models.IntegerField()


def decimal(places: int) -> models.Field[Any, Any]:
    return models.DecimalField(max_digits=12, decimal_places=places)


CITEXT = "CREATE EXTENSION citext"
COLLATION = (
    "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)
CASES = [
    Case("int", number(), 7, "7"),
    Case("int", number(), "7", "7"),
    Case("bigint", number(), -(1 << 40), str(-(1 << 40))),
    Case("oid", models.BigIntegerField(), 4_000_000_000, "4000000000"),
    Case("over_int", number(), 7, "7"),
    Case("int", char(), "7", "7"),
    Case("numeric(10)", number(), 7, "7"),
    Case("numeric(12,4)", decimal(2), Decimal("-1.5"), "-1.5"),
    Case("over_numeric", decimal(4), Decimal(0), "0"),
    Case("numeric", number(), 7, "7.0", certain=False),
    Case("numeric", decimal(2), Decimal("1.5"), "1.5", certain=False),
    Case("varchar(20)", char(), "Ä'\"\\ x", "'Ä''\"\\ x'"),
    Case("varchar(20)", char(), Code.A, "'a'"),
    Case("text", models.TextField(), Choice.A, "'a'"),
    Case("text", Lower(max_length=9), "ABC", "'abc'"),
    Case("char(5)", char(), "äb", "'äb'"),
    Case("char(5)", char(), "ab  ", "'ab'"),
    Case("over_char", char(), "ab", "'ab'"),
    Case("bpchar", char(), "ab", "'ab  '", certain=False),
    Case("citext", char(), "AB", "'ab'", certain=False, needs=CITEXT),
    Case("text COLLATE ci", char(), "AB", "'ab'", certain=False, needs=COLLATION),
    Case("uuid", models.UUIDField(), UUID, f"'{UUID}'"),
    Case("uuid", char(), str(UUID).upper(), f"'{UUID}'"),
    Case("bool", models.BooleanField(), True, "true"),
    Case("over_bool", models.BooleanField(), False, "false"),
    Case("date", models.DateField(), dt.date(33, 1, 2), "'0033-01-02'"),
    Case("timestamptz", models.DateTimeField(), dt.datetime(2026, 1, 1, 1, 2, 3, 4500, CEST),
         "'2026-01-01 01:02:03.0045+02'"),
    Case("timestamptz", models.DateTimeField(), dt.datetime(900, 1, 1, tzinfo=dt.UTC),
         "'0900-01-01 00:00+00'"),
    Case("timestamp", models.DateTimeField(), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
         "'2026-01-01'", certain=False),
    Case("mood", char(), "sad", "'sad'", certain=False),
    Case("odd.int4", char(), "7", "'7'", certain=False),
    Case("money", decimal(2), Decimal("3.5"), "3.5", certain=False),
    Case("bit(4)", char(), "0101", "B'0101'", certain=False),
    Case("varbit", char(), "0101", "B'0101'", certain=False),
    Case("int[]", char(), "{1, 2}", "'{1,2}'", certain=False),
    Case("bytea", models.BinaryField(), b"\0", "'\\x00'", certain=False),
    Case("float8", models.FloatField(), 0.1, "0.1", certain=False),
    Case("interval", models.DurationField(), dt.timedelta(1), "'1 day'", certain=False),
    Case("jsonb", models.JSONField(), {"a": 1}, "'{\"a\": 1}'", certain=False),
    Case("int4range", char(), "[1,2]", "'[1,2]'", certain=False),
    Case("inet", models.GenericIPAddressField(), "10.0.0.1", "'10.0.0.1'", certain=False),
    Case('"char"', char(), "x", "'x'", certain=False),
    Case("name", char(), "x", "'x'", certain=False),
    Case("time", models.TimeField(), dt.time(1), "'01:00'", certain=False),
]  # fmt: skip
TYPES = [
    "CREATE DOMAIN near_int AS int", "CREATE DOMAIN over_int AS near_int",
    "CREATE DOMAIN near_char AS char(4)", "CREATE DOMAIN over_char AS near_char",
    "CREATE DOMAIN over_numeric AS numeric(9,3)", "CREATE DOMAIN over_bool AS bool",
    "CREATE TYPE mood AS ENUM ('sad')",
    "CREATE SCHEMA odd", "CREATE TYPE odd.int4 AS ENUM ('7')",
]  # fmt: skip


def killed(registry: Registry, event: Event) -> set[str]:
    """The tokens that the daemon ends."""
    return {
        token
        for payload in registry.lineage(event.payload)
        for token in ended_tokens(NAMES, (payload,), registry.seen_as(event, payload))
    }


def model_of(table: str, field: models.Field[Any, Any]) -> type[models.Model]:
    meta = type("Meta", (), {"app_label": "shop", "managed": False, "db_table": table})
    key = field.clone()
    key.primary_key = True
    key.unique = True
    with isolate_apps("tests.shop"):
        return type(table, (models.Model,), {"__module__": __name__, "id": key, "Meta": meta})


def made(database: Database, statement: str) -> bool:
    try:
        database.execute(statement)
    except psycopg.Error:
        return False
    return True


async def test_a_row_has_the_name_that_its_change_has_or_its_table_s(
    feed_server: FeedServer, django_postgres: Database
) -> None:
    await run(django_postgres.execute, *TYPES)
    there = {needs: await run(made, django_postgres, needs) for needs in (CITEXT, COLLATION)}
    cases = {
        f"case_{at}": case for at, case in enumerate(CASES) if there.get(case.needs, True)
    }  # fmt: skip
    for table, case in cases.items():
        await run(django_postgres.execute, f"CREATE TABLE {table} (id {case.type} PRIMARY KEY)")
    rows = {table: Row(model_of(table, case.field), case.value) for table, case in cases.items()}

    tables = DependencyResolver("default")
    meant = {}
    for table, row in rows.items():
        found = await run(tables.dependencies, [row])
        assert found is not None
        (meant[table],) = found
    async with following(WalFeed(**django_postgres.feed_options())) as follower:
        for table, case in cases.items():
            insert = f"INSERT INTO {table} VALUES ({case.literal})"
            await run(django_postgres.execute, insert)
        await run(django_postgres.execute, END)
        await follower.payload("the end")
        assert follower.resyncs == ["connected"]
        events = {event.payload: event for event in follower.events}
    for table, case in cases.items():
        dependency = meant[table]
        event = events[f"public.{table}"]
        told = f"{case.type} of {case.value!r}: {dependency} and {event}"
        assert (dependency.row is not None) is case.certain, told
        if dependency.row is not None:
            assert event.keys == {dependency.row}, told
            assert [type(each) for each in dependency.row] == [
                type(each) for key in event.keys for each in key
            ], told
        assert killed(tables.registry, event) & set(NAMES.tokens(dependency)), told


@dataclass(frozen=True)
class Heir:
    """A table and one below it; ``key`` is of a row of the upper one, ``row`` what is inserted."""

    up: str
    down: str
    key: tuple[Any, ...]
    row: str = "(1, 'a')"
    certain: bool = True
    """Whether the upper table's rows can be told apart."""


FLAT, WIDE = "(id int PRIMARY KEY, code text)", "(id int, code text, PRIMARY KEY (id, code))"
PARTED = "(id int NOT NULL, at date NOT NULL{}) PARTITION BY RANGE (at)"
LEAF = "PARTITION OF {{up}} {} DEFAULT"
HEIRS = [
    Heir(FLAT, "(PRIMARY KEY (code)) INHERITS ({up})", (1,)),
    Heir(FLAT, "(PRIMARY KEY (id, code)) INHERITS ({up})", (1,)),
    Heir(FLAT, "() INHERITS ({up})", (1,)),
    Heir(FLAT, "(PRIMARY KEY (id)) INHERITS ({up})", (1,)),
    Heir(WIDE, "(PRIMARY KEY (code, id)) INHERITS ({up})", (1, "a")),
    Heir("(id int, code text)", "(PRIMARY KEY (id)) INHERITS ({up})", (1,), certain=False),
    *(
        Heir(PARTED.format(""), LEAF.format(key), (1, "2026-02-03"), "(1, '2026-02-03')", False)
        for key in ("", "(PRIMARY KEY (id))", "(PRIMARY KEY (at, id))")
    ),
    Heir(
        PARTED.format(", PRIMARY KEY (id, at)"), LEAF.format(""), (1, "2026-02-03"),
        "(1, '2026-02-03')",
    ),
]  # fmt: skip


async def test_a_change_below_ends_the_row_above(
    feed_server: FeedServer, django_postgres: Database
) -> None:
    for at, heir in enumerate(HEIRS):
        await run(
            django_postgres.execute,
            f"CREATE TABLE up{at} {heir.up}",
            f"CREATE TABLE down{at} {heir.down.format(up=f'up{at}')}",
        )
    tables = DependencyResolver("default")
    async with following(WalFeed(**django_postgres.feed_options())) as follower:
        for at, heir in enumerate(HEIRS):
            await run(django_postgres.execute, f"INSERT INTO down{at} VALUES {heir.row}")
        await run(django_postgres.execute, END)
        await follower.payload("the end")
        events = {event.payload: event for event in follower.events}
    for at, heir in enumerate(HEIRS):
        dependency = await the_row(tables, f"public.up{at}", heir.key)
        assert dependency.row == (heir.key if heir.certain else None), heir
        event = events[f"public.down{at}"]
        assert killed(tables.registry, event) & set(NAMES.tokens(dependency)), heir
        seen = tables.registry.seen_as(event, f"public.up{at}")
        assert seen.keys in (None, {heir.key}), heir


async def test_rows_of_two_tables_of_one_payload_depend_on_both(
    feed_server: FeedServer, django_postgres: Database
) -> None:
    await run(
        django_postgres.execute,
        'CREATE SCHEMA "a.b"', 'CREATE TABLE "a.b".c (id int PRIMARY KEY)',
        'CREATE SCHEMA a', 'CREATE TABLE a."b.c" (n int, id int PRIMARY KEY)',
    )  # fmt: skip
    tables = DependencyResolver("default")
    assert (await the_row(tables, "a.b.c", (1,))).row is None


async def the_row(tables: DependencyResolver, payload: str, key: tuple[Any, ...]) -> Any:
    found = await run(tables.dependencies, [Row(payload, key)])
    assert found is not None
    (dependency,) = found
    return dependency


@pytest.mark.django_db
def test_two_texts_that_are_equal_to_python_are_two_rows() -> None:
    tables = DependencyResolver("default")
    tables.registry.refresh(connection)
    tables.trust_models()

    assert tables.dependencies([Row(Coupon, 1)]) != tables.dependencies([Row(Coupon, True)])
