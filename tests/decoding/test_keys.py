"""A key that is told is the row's, old and new, on real servers: wrong ones are worse than none."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.decoding import base
from django_pgnudge.feed import WalFeed
from tests.feed.following import DEADLINE, following, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.events import Key
    from tests.fix_servers import Database, FeedServer

END = "SELECT pg_logical_emit_message(true, 'pgnudge', 'the end')"


async def keys_of(database: Database, payload: str, *work: str) -> set[Any] | None:
    async with following(WalFeed(**database.feed_options())) as follower:
        await run(database.execute, *work, END)
        await follower.payload("the end")
        assert follower.resyncs == ["connected"]
        assert follower.counts[payload]
        return follower.keys(payload)


CHANGES = ["INSERT INTO t (id) VALUES (1)", "UPDATE t SET id = 2", "DELETE FROM t"]


@pytest.mark.parametrize(
    ("schema", "work", "keys"),
    [
        pytest.param(
            ["CREATE TABLE t (id int, more text DEFAULT 'a', PRIMARY KEY (id) INCLUDE (more))"],
            ["INSERT INTO t VALUES (1)", "UPDATE t SET more = 'b'", *CHANGES[1:]],
            {(1,), (2,)},
            id="included",
        ),
        pytest.param(
            ["CREATE DOMAIN a AS int", "CREATE DOMAIN b AS a", "CREATE TABLE t (id b PRIMARY KEY)"],
            CHANGES,
            {(1,), (2,)},
            id="domain over domain",
        ),
        pytest.param(
            ["CREATE DOMAIN a AS bool", "CREATE TABLE t (id a PRIMARY KEY)"],
            ["INSERT INTO t VALUES (true), (false)"],
            {(True,), (False,)},
            id="domain over bool",
        ),
        pytest.param(
            ["CREATE DOMAIN a AS bytea", "CREATE TABLE t (id a PRIMARY KEY)"],
            ["INSERT INTO t VALUES ('\\x01')"],
            {("\\x01",)},
            id="domain over bytea",
        ),
        pytest.param(
            ["CREATE SCHEMA odd", "CREATE TYPE odd.int4 AS ENUM ('x', '2')",
             "CREATE TABLE t (id odd.int4 PRIMARY KEY)"],
            ["INSERT INTO t VALUES ('x')", "UPDATE t SET id = '2'"],
            {("x",), ("2",)},
            id="a type that is called int4",
        ),
        pytest.param(
            ["CREATE TABLE t (gone int, b text DEFAULT 'b', more int, id int)",
             "ALTER TABLE t DROP gone", "ALTER TABLE t ADD PRIMARY KEY (id, b)"],
            CHANGES,
            {(1, "b"), (2, "b")},
            id="dropped column, index in another order",
        ),
        pytest.param(
            ["CREATE TABLE t (more int, id int PRIMARY KEY DEFERRABLE)",
             "ALTER TABLE t REPLICA IDENTITY FULL"],
            CHANGES,
            {(1,), (2,)},
            id="deferrable, whole old rows",
        ),
        pytest.param(
            ["CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)"], CHANGES[:1], None, id="deferrable"
        ),
        pytest.param(
            ["CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL UNIQUE DEFAULT 1)",
             "ALTER TABLE t REPLICA IDENTITY USING INDEX t_other_key"],
            CHANGES,
            None,
            id="another identity",
        ),
    ],
)  # fmt: skip
async def test_a_key_is_the_old_and_the_new_one_or_none(
    feed_server: FeedServer,
    database: Database,
    schema: list[str],
    work: list[str],
    keys: set[Key] | None,
) -> None:
    database.execute(*schema)
    assert await keys_of(database, "public.t", *work) == keys


async def test_a_generated_key_is_told_as_far_as_it_is_sent(
    feed_server: FeedServer, database: Database
) -> None:
    database.execute(
        "CREATE TABLE t (v int, id int GENERATED ALWAYS AS (v + 1) STORED PRIMARY KEY)"
    )
    insert, move = "INSERT INTO t (v) VALUES (1)", "UPDATE t SET v = 2"
    if feed_server.plugin == "pgoutput":
        assert await keys_of(database, "public.t", insert) is None
    else:
        assert await keys_of(database, "public.t", insert, move) == {(2,), (3,)}


async def test_two_tables_of_one_payload_have_no_keys(
    feed_server: FeedServer, database: Database
) -> None:
    database.execute(
        'CREATE SCHEMA "a.b"', 'CREATE TABLE "a.b".c (id int PRIMARY KEY)',
        'CREATE SCHEMA a', 'CREATE TABLE a."b.c" (n int, id int PRIMARY KEY)',
    )  # fmt: skip
    work = 'INSERT INTO "a.b".c VALUES (1)', 'INSERT INTO a."b.c" VALUES (2, 3)'
    assert await keys_of(database, "a.b.c", *work) is None


async def test_one_of_two_tables_of_one_payload_may_have_no_key(
    feed_server: FeedServer, database: Database
) -> None:
    database.execute(
        'CREATE SCHEMA "a.b"', 'CREATE TABLE "a.b".c (id int PRIMARY KEY)',
        'CREATE SCHEMA a', 'CREATE TABLE a."b.c" (id int)',
    )  # fmt: skip
    assert await keys_of(database, "a.b.c", 'INSERT INTO a."b.c" VALUES (3)') is None


async def test_what_postgres_reads_otherwise_than_python_is_no_key(
    feed_server: FeedServer, database: Database
) -> None:
    name = f"{database.name}_jp"
    postgres = feed_server.postgres
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0")
    try:
        theirs = type(database)(postgres, name, feed_server.plugin)
        theirs.execute("CREATE TABLE t (id text PRIMARY KEY)")
        # A full-width tilde: Python's EUC_JP makes a wave dash of its bytes.
        work = "INSERT INTO t VALUES (convert_from('\\xa1c1', 'EUC_JP'))"
        keys = await keys_of(theirs, "public.t", work)
        assert keys == ({("\uff5e",)} if feed_server.plugin == "pgoutput" else None)
        assert await keys_of(theirs, "public.t", "INSERT INTO t VALUES ('a')") == {("a",)}
    finally:
        postgres.drop_database(name)


CONVERT = """
CREATE FUNCTION convert(raw bytea, encoding text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN convert_from(raw, encoding); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$
"""


def test_python_reads_what_postgres_reads_but_for_the_characters_that_are_listed(
    database: Database,
) -> None:
    high = range(0x80, 0x100)
    one = [bytes([byte]) for byte in high]
    two = [bytes(pair) for pair in itertools.product(high, repeat=2)]
    three = [b"\x8f" + pair for pair in two]
    with database.connect() as connection:
        connection.execute(CONVERT.encode())
        for encoding, codec in base._CODECS.items():  # noqa: SLF001 - all there are
            if encoding in ("SQL_ASCII", "UTF8"):
                continue
            texts = one + two + three if encoding.startswith("EUC_J") else one
            texts = one + two if encoding in ("EUC_CN", "EUC_KR") else texts
            rows = connection.execute(
                "SELECT raw, convert(raw, %s) FROM unnest(%s::bytea[]) raw", [encoding, texts]
            ).fetchall()
            listed = base._OTHER_CHARACTERS.get(codec, frozenset())  # noqa: SLF001 - all there are
            for raw, text in rows:
                with contextlib.suppress(UnicodeDecodeError):
                    python = bytes(raw).decode(codec)
                    assert text in (None, python) or not listed.isdisjoint(python), (encoding, raw)


@dataclass(frozen=True)
class Altered:
    """A table whose key changes while it is followed.

    ``change`` is what is done the nth time, ``right`` the keys that has.
    """

    alter: tuple[str, ...]
    change: str
    right: Callable[[int], set[Any]]
    plugins: tuple[str, ...] = ("pgoutput", "wal2json", "test_decoding")
    at_once: bool = True
    """Whether pgoutput's messages show it."""


def moved(number: int) -> set[Any]:
    return {(number - 1,), (number,)}


MOVE = "UPDATE t SET id = id + 1"
ALTERED = {
    "another type": Altered(
        ("ALTER TABLE t ALTER id TYPE text",),
        "UPDATE t SET id = 'x{n}'",
        lambda n: {(f"x{n - 1}",), (f"x{n}",)},
    ),
    "a type that looks the same": Altered(
        ("ALTER TABLE t ALTER id TYPE numeric(9,0)",), MOVE, lambda n: {(str(n - 1),), (str(n),)}
    ),
    "names swapped": Altered(
        ("ALTER TABLE t RENAME id TO old; ALTER TABLE t RENAME other TO id",),
        "INSERT INTO t (old, id) VALUES ({n}, {n} + 500)",
        lambda n: {(n,)},
    ),
    "names swapped, whole old rows": Altered(
        (
            "ALTER TABLE t REPLICA IDENTITY FULL",
            "ALTER TABLE t RENAME id TO old; ALTER TABLE t RENAME other TO id",
        ),
        "UPDATE t SET old = old + 1, id = id + 500",
        moved,
        at_once=False,
    ),
    "another key": Altered(
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (other)",),
        "UPDATE t SET other = other + 1, id = id + 7",
        moved,
    ),
    "another identity": Altered(
        ("ALTER TABLE t REPLICA IDENTITY USING INDEX t_other_key",), MOVE, moved
    ),
    "no identity": Altered(
        ("ALTER TABLE t REPLICA IDENTITY NOTHING",), MOVE, moved, ("test_decoding",)
    ),
    "an identity again": Altered(
        ("ALTER TABLE t REPLICA IDENTITY NOTHING", "ALTER TABLE t REPLICA IDENTITY DEFAULT"),
        MOVE,
        moved,
    ),
    "a key made deferrable": Altered(
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE",),
        MOVE,
        moved,
        ("test_decoding",),
    ),
}


@pytest.mark.parametrize("case", ALTERED)
async def test_after_an_alter_no_wrong_key_is_told_for_long(
    feed_server: FeedServer, database: Database, case: str
) -> None:
    altered = ALTERED[case]
    if feed_server.plugin not in altered.plugins:
        pytest.skip("the server refuses the UPDATE, or the plugin does not send it")
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL UNIQUE)",
        "INSERT INTO t VALUES (0, 0)",
    )
    options = database.feed_options(status_interval=0.02)
    async with following(WalFeed(**options)) as follower:
        await run(database.execute, *altered.alter)
        number, good, deadline = 0, 0, time.monotonic() + DEADLINE
        while good < 20:
            number += 1
            assert time.monotonic() < deadline, "wrong keys are told for good"
            await run(database.execute, altered.change.format(n=number))
            await follower.until(lambda: follower.counts["public.t"] == number)
            keys = follower.events[-1].keys
            right = keys is None or keys == altered.right(number)
            shown = feed_server.plugin == "pgoutput" and altered.at_once
            assert right or not shown, f"{keys} is told of {number}"
            good = good + 1 if right else 0
        assert follower.resyncs == ["connected"]
