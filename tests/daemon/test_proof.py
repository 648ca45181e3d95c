"""The proof proves the map too: real servers, a real Redis, and changes that come and go between
two proofs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.db import connections
from servers.process import wait_until

from django_pgnudge.daemon import catalog_refresh
from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.reader.settled import settled
from tests.daemon.leases import (
    cleared_daemon,
    epoch,
    gone,
    holds,
    plant,
    proven_again,
    table_name,
)
from tests.fix_django import pointed
from tests.fix_nudged import names_of
from tests.shop.models import Category

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.fix_servers import Database

SCHEMA = (
    "CREATE TABLE a (id int, note text) PARTITION BY LIST (id)",
    "CREATE TABLE b (id int, note text) PARTITION BY LIST (id)",
    "CREATE TABLE leaf PARTITION OF a FOR VALUES IN (1)",
    "CREATE TABLE parent (id int PRIMARY KEY, code int NOT NULL)",
    "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
    "CREATE TABLE loaded (id int, note text)",
    "ALTER TABLE leaf REPLICA IDENTITY FULL",
    "ALTER TABLE loaded REPLICA IDENTITY FULL",
    "INSERT INTO a VALUES (1, 'a')",
    "INSERT INTO parent VALUES (1, 1)",
    "INSERT INTO child VALUES (2, 2)",
    "INSERT INTO loaded VALUES (2, 'b')",
)


@pytest.fixture
def site(values_in_redis: None, settings: Any, django_postgres: Database) -> Database:
    settings.PGNUDGE = {
        **settings.PGNUDGE,
        "INVALIDATE": {f"public.{table}": [f"list of {table}"] for table in ("a", "b", "parent")},
    }
    django_postgres.execute(*SCHEMA)
    return django_postgres


def tokens(*tables: str) -> list[str]:
    return [name for table in tables for name in (names_of().table(table), names_of().bulk(table))]


MOVES: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    # What changes without a word in the log, the tables that it concerns, and the rules.
    "a partition moves to another table": (
        [
            "ALTER TABLE a DETACH PARTITION leaf",
            "ALTER TABLE b ATTACH PARTITION leaf FOR VALUES IN (1)",
        ],
        ["public.a", "public.b", "public.leaf"],
        ["list of a", "list of b"],
    ),
    "a table is attached": (
        ["ALTER TABLE b ATTACH PARTITION loaded FOR VALUES IN (2)"],
        ["public.b", "public.loaded"],
        ["list of b"],
    ),
    "a partition is dropped": (["DROP TABLE leaf"], ["public.a", "public.leaf"], ["list of a"]),
    "two tables change names": (
        [
            "ALTER TABLE a RENAME TO c",
            "ALTER TABLE b RENAME TO a",
            "ALTER TABLE c RENAME TO b",
        ],
        ["public.a", "public.b"],
        ["list of a", "list of b"],
    ),
    "a child has no parent": (
        ["ALTER TABLE child NO INHERIT parent"],
        ["public.parent", "public.child"],
        ["list of parent"],
    ),
    "a table goes to another schema": (
        ["ALTER TABLE loaded SET SCHEMA stock"],
        ["public.loaded", "stock.loaded"],
        [],
    ),
    "a schema has another name": (
        ["ALTER SCHEMA stock RENAME TO odd"],
        ["stock.item", "odd.item"],
        [],
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_what_moved_between_two_proofs_is_over_before_the_lease_counts(site, move):
    statements, tables, keys = MOVES[move]
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        plant(*tokens(*tables, "public.auth_user"), *keys)
        site.execute(*statements)
        proven_again(running)
        proven_again(running)
        assert gone(*tokens(*tables))
        assert gone(*keys)
        assert epoch() != before, "readers have to read the catalogs again"
        assert not gone(names_of().table("public.auth_user"))


@pytest.mark.parametrize(
    "statements",
    [
        ["TRUNCATE leaf"],
        ["VACUUM FULL leaf"],
        [
            "ALTER TABLE leaf SET UNLOGGED",
            "UPDATE leaf SET note = 'b'",
            "ALTER TABLE leaf SET LOGGED",
        ],
    ],
    ids=lambda statements: statements[0],
)
def test_a_table_that_is_stored_anew_ends_no_more_than_its_values(site, statements):
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        plant(*tokens("public.leaf", "public.parent"))
        site.execute(*statements)
        proven_again(running)
        proven_again(running)
        assert gone(*tokens("public.leaf"))
        assert epoch() == before
        assert cache_has(*tokens("public.parent"))


def test_a_table_that_came_ends_nothing(site):
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        site.execute("CREATE TABLE came (id int PRIMARY KEY)")
        proven_again(running)
        proven_again(running)
        assert epoch() == before


def test_a_table_that_came_before_another_of_its_name_ends_the_epoch(site):
    """By some search_path what was read of the one is read of the other."""
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        site.execute("CREATE SCHEMA tenant", "CREATE TABLE tenant.parent (id int PRIMARY KEY)")
        proven_again(running)
        proven_again(running)
        assert epoch() != before


def cache_has(*names: str) -> bool:
    return len(caches["default"].get_many(names)) == len(names)


def test_what_left_the_publication_and_came_back_is_over(site, settings):
    site.execute("CREATE PUBLICATION ours FOR TABLE parent, shop_category")
    settings.PGNUDGE = {**settings.PGNUDGE, "PLUGIN": "pgoutput", "PUBLICATION": "ours"}
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        plant(*tokens("public.parent", table_name()), "list of parent")
        site.execute(
            "ALTER PUBLICATION ours DROP TABLE parent",
            "UPDATE parent SET code = 7",
            "ALTER PUBLICATION ours ADD TABLE parent",
        )
        proven_again(running)
        proven_again(running)
        assert gone(*tokens("public.parent"), "list of parent")
        assert epoch() != before
        assert cache_has(*tokens(table_name()))


def test_a_publication_that_left_out_an_operation_for_a_while_ends_the_epoch(site, settings):
    site.execute("CREATE PUBLICATION ours FOR TABLE parent, shop_category")
    settings.PGNUDGE = {**settings.PGNUDGE, "PLUGIN": "pgoutput", "PUBLICATION": "ours"}
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        plant(*tokens("public.parent", table_name()), "list of parent")
        site.execute(
            "ALTER PUBLICATION ours SET (publish = 'insert')",
            "UPDATE parent SET code = 7",
            "ALTER PUBLICATION ours SET (publish = 'insert, update, delete, truncate')",
        )
        proven_again(running)
        proven_again(running)
        assert gone(*tokens("public.parent", table_name()), "list of parent")
        assert epoch() != before


def test_another_view_ends_the_epoch(site):
    site.execute("CREATE VIEW seen AS SELECT id FROM parent")
    with cleared_daemon() as running:
        proven_again(running)
        before = epoch()
        site.execute("CREATE OR REPLACE VIEW seen AS SELECT code AS id FROM parent")
        proven_again(running)
        proven_again(running)
        assert epoch() != before


def test_rows_are_told_by_another_primary_key_after_it_changed(site):
    with cleared_daemon() as running:
        proven_again(running)
        site.execute("ALTER TABLE parent DROP CONSTRAINT parent_pkey, ADD PRIMARY KEY (code)")
        proven_again(running)
        proven_again(running)
        row = names_of().row("public.parent", (33,))
        plant(row, names_of().bulk("public.parent"))
        site.execute("INSERT INTO parent VALUES (9, 33)")
        wait_until(lambda: gone(row), "the end of the row's token")
        assert not gone(names_of().bulk("public.parent"))


def test_a_child_that_came_later_is_streamed_though_tables_are_named(site, settings):
    """The feed's own filter was made of the names known at the start."""
    settings.PGNUDGE = {**settings.PGNUDGE, "TABLES": ["public.parent"]}
    with cleared_daemon() as running:
        proven_again(running)
        site.execute("CREATE TABLE later (PRIMARY KEY (id)) INHERITS (parent)")
        wait_until(lambda: running.daemon.status().resyncs.total() == 2, "a stream for it")
        proven_again(running)
        plant(names_of().table("public.parent"))
        site.execute("INSERT INTO later VALUES (7, 7)")
        wait_until(lambda: gone(names_of().table("public.parent")), "the end of the token")


def test_the_registry_is_read_behind_the_slot(site):
    """A table is attached after the start read the catalogs, and before the stream began."""
    with site.connect() as writer:
        # A slot waits for whoever writes.
        writer.execute("BEGIN; INSERT INTO loaded VALUES (2, 'c')")
        starting = BackgroundDaemon()
        starting._thread.start()  # noqa: SLF001 - without waiting for what it proves
        making = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION%'"
        wait_until(lambda: site.execute(making), "the making of a slot")
        writer.execute("COMMIT")
        # It is still made when this is done, or it waits for this.
        site.execute("ALTER TABLE b ATTACH PARTITION loaded FOR VALUES IN (2)")
        wait_until(holds, "the lease")
        plant(*tokens("public.b"))
        site.execute("INSERT INTO b VALUES (2, 'd')")
        assert settled(timeout=10)
        assert gone(names_of().table("public.b"))
        starting.stop()


def test_settled_waits_for_what_a_partition_of_a_moment_ago_means(site):
    with cleared_daemon():
        for number in range(5, 10):
            plant(*tokens("public.a"), "list of a")
            site.execute(
                f"CREATE TABLE leaf_{number} PARTITION OF a FOR VALUES IN ({number})",
                f"INSERT INTO a VALUES ({number}, 'x')",
            )
            assert settled(timeout=10)
            assert gone(names_of().table("public.a"), "list of a")


def test_settled_waits_for_what_a_table_attached_a_moment_ago_means(site, settings):
    # No proof comes to its help.
    nudged_caches = {"CACHES": ["default"], "LEASE": 3600.0}
    settings.PGNUDGE = {**settings.PGNUDGE, "NUDGED": nudged_caches}
    with cleared_daemon():
        site.execute("INSERT INTO loaded VALUES (2, 'c')")
        assert settled(timeout=10)
        plant(names_of().table("public.b"), "list of b")
        site.execute(
            "ALTER TABLE b ATTACH PARTITION loaded FOR VALUES IN (2)",
            "INSERT INTO b VALUES (2, 'x')",
        )
        assert settled(timeout=10)
        assert gone(names_of().table("public.b"), "list of b")


def test_settled_is_false_while_the_catalogs_cannot_be_read(site, monkeypatch, caplog):
    with cleared_daemon():
        readable = catalog_refresh.CatalogRefresh.refresh

        async def refresh(self: Any, patience: float | None) -> bool:
            return False

        monkeypatch.setattr(catalog_refresh.CatalogRefresh, "refresh", refresh)
        site.execute(
            "CREATE TABLE leaf_8 PARTITION OF a FOR VALUES IN (8)", "INSERT INTO a VALUES (8, 'x')"
        )
        plant("list of a")
        assert not settled(timeout=0.5)
        assert "goes unanswered" in caplog.text
        monkeypatch.setattr(catalog_refresh.CatalogRefresh, "refresh", readable)
        assert settled(timeout=10)
        assert gone("list of a")


@contextmanager
def through(proxy: Any, site: Database) -> Iterator[None]:
    """Django and the daemon go through the proxy."""
    settings = connections.settings["default"]
    before = dict(settings)
    connections["default"].close()
    settings.update({"HOST": proxy.host, "PORT": str(proxy.port)})
    try:
        yield
    finally:
        connections["default"].close()
        settings.update(before)


def test_no_lease_is_written_when_the_name_cannot_be_reached_anew(site, proxy_to, caplog):
    caplog.set_level("INFO", "django_pgnudge.daemon")
    proxy = proxy_to((site.postgres.host, site.postgres.port))
    with through(proxy, site), BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        proxy.refuse()
        wait_until(lambda: not holds(), "the end of the lease")
        assert "Cannot renew the lease" in caplog.text
        assert "cannot connect to" in caplog.text
        assert running.daemon.status().resyncs.total() == 1, "the stream is not to blame"
        proxy.listen()
        wait_until(lambda: "is renewed again" in caplog.text and holds(), "a renewal")
        assert running.daemon.status().resyncs.total() == 1


@pytest.mark.usefixtures("values_in_redis")
def test_a_daemon_follows_the_name_to_a_promoted_standby(
    postgres_factory, proxy_to, django_db_blocker, caplog
):
    """Split brain: the old primary is alive, and every connection to it."""
    from tests.feed.standby import Standby
    from tests.fix_django import TEMPLATE, migrate_template

    primary = postgres_factory()
    with django_db_blocker.unblock():
        migrate_template(primary)
        standby = Standby(primary)
        standby.start()
        try:
            proxy = proxy_to(primary.port)
            with pointed(primary, {"default": TEMPLATE}):
                connections.settings["default"].update(HOST=proxy.host, PORT=str(proxy.port))
                with BackgroundDaemon() as running:
                    wait_until(holds, "the lease")
                    before = epoch()
                    proven_again(running)
                    standby.promote()
                    proxy.target = (proxy.host, standby.port)
                    wait_until(lambda: running.daemon.status().resyncs.total() == 2, "the resync")
                    wait_until(lambda: epoch() not in (before, None), "the next epoch")
                    proven_again(running)
                    plant(names_of().table(table_name()))
                    connections["default"].close()
                    Category.objects.create(name="on the new primary")
                    wait_until(lambda: gone(names_of().table(table_name())), "the end of the token")
        finally:
            standby.stop()
    assert "a new connection to" in caplog.text
    assert "timeline 2" in caplog.text
