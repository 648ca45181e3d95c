"""What a role without any right can do with ``pg_logical_emit_message``, which all may call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.core.cache import caches
from servers.process import wait_until

import django_pgnudge
from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.reader.settled import settled
from tests.daemon.leases import holds, plant
from tests.fix_nudged import names_of
from tests.shop.models import Category

TABLE = "public.shop_category"


@pytest.fixture
def site(values_in_redis: None, settings: Any, django_postgres: Any) -> Any:
    settings.PGNUDGE = {
        **settings.PGNUDGE,
        "INVALIDATE": {"prices": "price-list"},
    }
    return django_postgres


@pytest.fixture
def intruder(site: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection of a role that has been granted nothing."""
    role = f"intruder_{site.name}"
    site.execute(f"CREATE ROLE {role}")
    try:
        with site.connect() as connection:
            connection.execute(f"SET SESSION AUTHORIZATION {role}")
            yield connection
    finally:
        site.execute(f"DROP ROLE {role}")


@contextmanager
def live() -> Iterator[BackgroundDaemon]:
    with BackgroundDaemon() as running:
        wait_until(lambda: holds() and settled(10), "the lease")
        yield running


def size() -> int:
    """How many keys there are in Redis."""
    cache: Any = caches["default"]
    return int(cache.client.get_client().dbsize())


def stands(*names: str) -> bool:
    return len(caches["default"].get_many(names)) == len(names)


def flood(connection: psycopg.Connection[Any], content: str, count: int) -> None:
    """So many messages, in few transactions and in one each."""
    emit = f"SELECT pg_logical_emit_message(true, 'pgnudge', {content})"
    connection.execute(f"{emit} FROM generate_series(1, {count}) n".encode())
    connection.execute(
        f"DO $$ BEGIN FOR n IN 1..{count // 20} LOOP"
        f" PERFORM pg_logical_emit_message(true, 'pgnudge', {content}); COMMIT;"
        " END LOOP; END $$".encode()
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"'{TABLE}'", id="a table's name"),
        pytest.param("'public.ghost_' || n", id="names of tables that do not exist"),
        pytest.param("'nudge ' || n", id="own nudges"),
        pytest.param("'pgnudge:settle:' || md5(n::text)", id="requests to settle"),
        pytest.param("'pgnudge:settle:' || repeat(n::text, 300)", id="long requests to settle"),
        pytest.param("repeat(n::text, 300)", id="long own nudges"),
        pytest.param("''", id="nothing"),
    ],
)
def test_a_flood_of_messages_ends_no_token_no_lease_and_leaves_nothing_in_the_cache(
    intruder: psycopg.Connection[Any],
    site: Any,
    redis_server: Any,
    content: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with live() as running:
        lease = holds()
        assert lease is not None
        plant(names_of().table(TABLE))
        resyncs = running.daemon.status().resyncs
        before = size()
        flood(intruder, content, 20_000)
        # What is committed last has been dealt with last.
        site.execute("INSERT INTO shop_category (name) VALUES ('after the flood')")
        wait_until(lambda: not stands(names_of().table(TABLE)), "the end of the table's token")
        assert settled(30)
        kept = wait_until(holds, "the lease")
        assert kept.epoch == lease.epoch
        assert running.daemon.status().resyncs == resyncs
        assert size() <= before + 1
    assert "may be new partitions" not in caplog.text, "no reason to doubt the lease"


def test_a_message_with_the_name_of_a_table_is_not_a_change_of_it_and_is_told_once(
    intruder: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with live():
        plant(names_of().table(TABLE), names_of().bulk(TABLE))
        flood(intruder, f"'{TABLE}'", 100)
        assert settled(10)
        assert stands(names_of().table(TABLE), names_of().bulk(TABLE))
    assert caplog.text.count("is not an own nudge") == 1


def test_past_a_thousand_own_nudges_each_own_nudge_is_taken_to_have_been_sent(
    intruder: psycopg.Connection[Any], site: Any
) -> None:
    """So that a flood hides none: their values end, their rules fire, and nothing else does."""
    with live():
        any_nudge = names_of().table("*")
        plant(any_nudge, names_of().table(TABLE))
        caches["default"].set("price-list", "old", None)
        with site.connect() as application, application.transaction():
            application.execute(
                "SELECT pg_logical_emit_message(true, 'pgnudge', 'nudge ' || n)"
                " FROM generate_series(1, 2000) n"
            )
            application.execute("SELECT pg_logical_emit_message(true, 'pgnudge', 'prices')")
        assert settled(10)
        assert not stands(any_nudge)
        assert not stands("price-list")
        assert stands(names_of().table(TABLE))


def test_own_nudges_go_on_to_work_beside_a_flood_of_requests(
    intruder: psycopg.Connection[Any],
) -> None:
    with live():
        caches["default"].set("price-list", "old", None)
        flood(intruder, "'pgnudge:settle:' || md5(n::text)", 5000)
        django_pgnudge.emit("prices")
        Category.objects.create(name="beside")
        wait_until(lambda: not stands("price-list"), "the nudge")
