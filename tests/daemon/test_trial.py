"""runnudge --check: it ends, says what would be done, and fails for what would prevent it."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from servers.process import free_port

from django_pgnudge import caches, fragment, page
from django_pgnudge.caches import ValueStore
from django_pgnudge.caches.redis_value_store import RedisValueStore
from django_pgnudge.daemon.trial import PROBE
from django_pgnudge.rules import CacheRef, Deletes
from django_pgnudge.rules.registration import sandbox
from tests.fix_servers import fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings
    from servers.postgres import Postgres
    from servers.redis import Redis

    from tests.fix_servers import Database

DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO = "django.core.cache.backends.redis.RedisCache"


@pytest.fixture(autouse=True)
def _only_the_tests_own_rules() -> Iterator[None]:
    with sandbox():
        yield


@pytest.fixture
def site(django_postgres: Database, redis_server: Redis, settings: Settings) -> Settings:
    settings.CACHES = {
        "default": {"BACKEND": DJANGO_REDIS, "LOCATION": redis_server.url, "KEY_PREFIX": "a"},
        "other": {"BACKEND": DJANGO, "LOCATION": redis_server.url, "KEY_PREFIX": "b"},
    }
    settings.PGNUDGE = {
        "INVALIDATE": {
            "shop.Product": ["products", "product:{pk}", "tests.shop.cachekeys.order_keys"],
            "shop.Category": {
                "keys": ["p:*", fragment("menu", "{pk}"), fragment("side", 1), page()],
                "cache": "other",
                "version": 3,
            },
        }
    }
    return settings


def check(capsys: pytest.CaptureFixture[str], *arguments: str, timeout: float = 20) -> str:
    call_command("runnudge", "--check", f"--timeout={timeout}", *arguments)
    return capsys.readouterr().out


def failure(*arguments: str, timeout: float = 20) -> str:
    with pytest.raises(CommandError) as caught:
        call_command("runnudge", "--check", f"--timeout={timeout}", *arguments)
    return str(caught.value)


def test_it_lists_rules_and_counts_what_a_resync_would_clear(
    site: Settings, capsys: Any, django_postgres: Database
) -> None:
    mine, other = django_caches["default"], django_caches["other"]
    mine.set_many(dict.fromkeys(map(str, range(1234)), 1))
    mine.set("of another version", 1, version=2)
    other.set_many(dict.fromkeys("xyz", 1), version=3)
    said = check(capsys)
    assert "public.shop_product: 'products', 'product:{pk}', tests.shop.cachekeys.order_keys()" in (
        said
    )
    assert (
        "public.shop_category: 'p:*', fragment('menu', '{pk}'), fragment('side', 1),"
        " page(prefix='')"
        " in cache 'other' version 3" in said
    )
    assert "its own version: 1,234 keys" in said
    assert "version 3: 3 keys" in said
    assert "RESYNC\"] = 'versions'" in said
    assert django_postgres.slots() == []
    # What it wrote to try the cache is gone, and the rest is there.
    assert mine.get(PROBE) is None
    assert len(mine.get_many(map(str, range(1234)))) == 1234


@pytest.mark.parametrize(("resync", "count"), [("keys", "3 keys"), ("clear", "5 keys")])
def test_it_counts_by_the_setting(site: Settings, capsys: Any, resync: str, count: str) -> None:
    site.PGNUDGE = {
        "RESYNC": resync,
        "INVALIDATE": {"shop.Product": ["products", "product:{pk}"]},
    }
    django_caches["default"].set_many(
        dict.fromkeys(["products", "product:1", "product:2", "x", "y"], 1)
    )
    assert count in check(capsys)


def test_a_cache_that_cannot_tell_is_said_to_be_that(
    site: Settings, capsys: Any, tmp_path: Any
) -> None:
    files = "django.core.cache.backends.filebased.FileBasedCache"
    site.CACHES = {"default": {"BACKEND": files, "LOCATION": str(tmp_path)}}
    site.PGNUDGE = {"INVALIDATE": {"shop.Product": "products"}}
    assert "it does not tell" in check(capsys)


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("backend", [DJANGO_REDIS, DJANGO, "django_valkey.cache.ValkeyCache"])
def test_a_cache_that_is_down_fails_it_and_so_does_the_server_with_it(
    site: Settings, backend: str, ignore: bool
) -> None:
    options = {"IGNORE_EXCEPTIONS": True} if ignore and backend != DJANGO else {}
    down = {"BACKEND": backend, "LOCATION": f"redis://127.0.0.1:{free_port()}/0"}
    site.CACHES = {**site.CACHES, "default": {**down, "OPTIONS": options}}
    found = failure()
    assert "Cache 'default'" in found
    assert "Cache 'other'" not in found
    site.PGNUDGE = {**site.PGNUDGE, "PLUGIN": "pgoutput", "PUBLICATION": "missing"}
    both = failure()
    assert "Cache 'default'" in both
    assert "CreatePublication" in both


def test_a_cache_that_takes_no_writes_fails_it(
    site: Settings, redis_factory: Callable[..., Redis], redis_server: Redis
) -> None:
    replica = redis_factory(settings={"replicaof": f"127.0.0.1 {redis_server.port}"})
    site.CACHES = {"default": {"BACKEND": DJANGO_REDIS, "LOCATION": replica.url}}
    site.PGNUDGE = {}
    assert "read only" in failure()


def test_a_cache_that_does_not_answer_is_waited_for_no_longer_than_said(site: Settings) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        location = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        site.CACHES = {"default": {"BACKEND": DJANGO_REDIS, "LOCATION": location}}
        site.PGNUDGE = {}
        assert "did not answer within 1 s" in failure(timeout=1)


def test_a_server_that_is_down_fails_it(site: Settings, monkeypatch: Any) -> None:
    monkeypatch.setitem(connections.settings["default"], "PORT", str(free_port()))
    connections["default"].close()
    assert "cannot connect to" in failure()


def test_a_transaction_that_is_open_fails_it_by_the_time_and_is_named(
    site: Settings, django_postgres: Database
) -> None:
    with django_postgres.connect() as connection, connection.transaction():
        connection.execute("CREATE TABLE open_transaction ()")
        assert "pg_stat_activity" in failure(timeout=1.5)
    assert django_postgres.slots() == []


def test_slots_that_are_all_taken_fail_it_with_what_to_do(
    site: Settings, postgres_factory: Callable[..., Postgres]
) -> None:
    server = postgres_factory(settings={"max_replication_slots": 1})
    with server.connect("postgres") as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')")
    point_to(server)
    assert "Raise max_replication_slots" in failure()


def test_a_wrong_wal_level_fails_it_with_what_to_do(
    site: Settings, postgres_factory: Callable[..., Postgres]
) -> None:
    server = postgres_factory(settings={"wal_level": "replica"})
    point_to(server)
    assert "wal_level = logical" in failure()


def point_to(server: Postgres) -> None:
    connections["default"].close()
    connections.settings["default"].update(
        HOST=server.host, PORT=str(server.port), USER=server.user, NAME="postgres",
        PASSWORD=server.password or "",
    )  # fmt: skip


def test_a_role_without_replication_fails_it(site: Settings, django_postgres: Database) -> None:
    role = fresh_name("plain")
    django_postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        site.PGNUDGE = {"CONNECTION": {"user": role, "password": "x"}}
        assert "REPLICATION" in failure()
    finally:
        django_postgres.execute(f"DROP ROLE {role}")


def test_a_database_there_is_not_is_named_with_those_there_are(site: Settings) -> None:
    assert "There is no database 'defalt'" in (found := failure("--database=defalt"))
    assert "Did you mean 'default'?" in found


def test_pgoutput_without_a_publication_is_told_by_the_option(site: Settings) -> None:
    assert "--publication" in failure("--plugin=pgoutput")


def test_two_aliases_of_one_place_may_be_tried_at_once(
    site: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.CACHES["other"]["KEY_PREFIX"] = "a"
    get = ValueStore.get
    read: list[str] = []

    def read_while_the_other_deletes(self: ValueStore, key: str) -> Any:
        read.append(key)
        caches.delete(CacheRef("other"), Deletes(keys={PROBE}))
        return get(self, key)

    monkeypatch.setattr(RedisValueStore, "get", read_while_the_other_deletes)
    assert "Ready." in check(capsys)
    assert read
