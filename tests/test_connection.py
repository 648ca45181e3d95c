"""connection: the feed goes where Django's own driver would go. libpq itself is the oracle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from servers.process import free_port

from django_pgnudge.daemon.connection import feed_connection
from django_pgnudge.errors import ConfigError, ConnectionLostError
from django_pgnudge.feed import TLS, WalFeed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django.fixtures import Settings

    from tests.fix_servers import Database

PG_ENVIRONMENT = [name for name in os.environ if name.startswith("PG")]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in PG_ENVIRONMENT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "no-passfile"))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "no-services"))


@pytest.fixture
def alias() -> Iterator[dict[str, Any]]:
    """The settings of alias "default", in use at once and put back afterwards."""
    using = connections.settings["default"]
    before = dict(using)
    using.update(
        NAME="shop", USER="joe", PASSWORD="s3cret", HOST="127.0.0.1", PORT=str(free_port()),
        OPTIONS={},
    )  # fmt: skip
    yield using
    using.clear()
    using.update(before)


def resolved() -> dict[str, Any]:
    found = feed_connection("default")
    WalFeed(**found)  # takes every keyword as it is
    return found


def test_plain_tcp(alias: dict[str, Any]) -> None:
    found = resolved()
    assert found["host"] == "127.0.0.1"
    assert found["port"] == int(alias["PORT"])
    assert (found["user"], found["password"], found["database"]) == ("joe", "s3cret", "shop")
    assert found["ssl"] == TLS(mode="prefer")


def test_the_database_in_use_counts_not_the_one_first_configured(alias: dict[str, Any]) -> None:
    alias["NAME"] = "test_shop"
    assert resolved()["database"] == "test_shop"


def test_a_host_that_does_not_resolve_is_no_mistake(alias: dict[str, Any]) -> None:
    alias["HOST"] = "db.invalid"
    assert resolved()["host"] == "db.invalid"


@pytest.mark.parametrize("host", ["/var/run/nowhere", "@abstract"])
def test_unix_sockets_carry_no_tls(alias: dict[str, Any], host: str) -> None:
    alias["HOST"] = host
    alias["OPTIONS"] = {"sslmode": "require"}
    found = resolved()
    assert found["host"] == host
    assert found["ssl"] is False


def test_an_empty_host_is_the_drivers_socket_directory(alias: dict[str, Any]) -> None:
    alias["HOST"] = ""
    assert resolved()["host"].startswith("/")


def test_the_environment_fills_what_is_empty(
    alias: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alias.update(HOST="", PORT="", USER="", PASSWORD="")
    for name, value in {
        "PGHOST": "127.0.0.1", "PGPORT": "1", "PGUSER": "ann", "PGPASSWORD": "pw",
        "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "7",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert resolved() == {
        "host": "127.0.0.1", "port": 1, "user": "ann", "password": "pw", "database": "shop",
        "ssl": False, "connect_timeout": 7.0,
    }  # fmt: skip


def test_a_service_and_a_password_file_are_read(
    alias: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services, passwords = tmp_path / "services", tmp_path / "passwords"
    services.write_text("[shop]\nhost=127.0.0.1\nport=1\nuser=ann\ndbname=sold\n")
    passwords.write_text("127.0.0.1:1:sold:ann:from-file\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    alias.update(HOST="", PORT="", USER="", PASSWORD="", NAME="")
    alias["OPTIONS"] = {"service": "shop", "passfile": str(passwords)}
    found = resolved()
    assert (found["user"], found["database"], found["password"]) == ("ann", "sold", "from-file")


def test_tls_options_reach_the_feed(alias: dict[str, Any]) -> None:
    alias["OPTIONS"] = {
        "sslmode": "verify-full", "sslrootcert": "/ca.pem", "sslcert": "/c.pem",
        "sslkey": "/k.pem", "sslpassword": "kp", "sslcrl": "/crl.pem",
        "channel_binding": "require", "hostaddr": "127.0.0.1",
    }  # fmt: skip
    alias["HOST"] = "db.example"
    found = resolved()
    assert found["host"] == "127.0.0.1"
    assert found["ssl"] == TLS(
        mode="verify-full", rootcert="/ca.pem", cert="/c.pem", key="/k.pem", key_password="kp",
        crl="/crl.pem", server_name="db.example", channel_binding="require",
    )  # fmt: skip


def test_djangos_own_options_are_not_libpqs(alias: dict[str, Any]) -> None:
    alias["OPTIONS"] = {"isolation_level": 2, "server_side_binding": True, "assume_role": "r"}
    assert resolved()["user"] == "joe"


def test_connection_overrides_single_values(alias: dict[str, Any], settings: Settings) -> None:
    alias["OPTIONS"] = {"hostaddr": "127.0.0.9"}
    settings.PGNUDGE = {
        "CONNECTION": {"host": "127.0.0.2", "user": "nudge", "database": "d", "sslmode": "disable"}
    }
    found = resolved()
    assert (found["host"], found["user"], found["database"]) == ("127.0.0.2", "nudge", "d")
    assert found["password"] == "s3cret"
    assert found["ssl"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gssencmode": "require"}, "gssencmode=require"),
        ({"require_auth": "scram-sha-256"}, "require_auth"),
        ({"sslmode": "sometimes"}, "mode='sometimes' is not one of"),
        ({"no_such_option": 1}, 'libpq refuses DATABASES."default".*no_such_option'),
        ({"service": "unknown"}, 'libpq refuses DATABASES."default".*service'),
    ],
)
def test_what_no_retry_can_mend_is_a_config_error_without_the_password(
    alias: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    alias["OPTIONS"] = options
    with pytest.raises(ConfigError, match=words) as caught:
        feed_connection("default")
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_not_postgresql_is_named(settings: Settings) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    connections.settings["lite"] = connections.settings["default"] | sqlite
    try:
        with pytest.raises(ConfigError, match="is not PostgreSQL but sqlite"):
            feed_connection("lite")
    finally:
        del connections.settings["lite"]


def test_of_several_hosts_the_one_that_answers_is_taken(django_postgres: Database) -> None:
    using = connections.settings["default"]
    before = dict(using)
    dead = free_port()
    try:
        using["HOST"] = f"127.0.0.1,{django_postgres.postgres.host}"
        using["PORT"] = f"{dead},{django_postgres.postgres.port}"
        found = resolved()
        assert found["host"] == django_postgres.postgres.host
        assert found["port"] == django_postgres.postgres.port
        using["PORT"] = f"{dead},{dead}"
        with pytest.raises(ConnectionLostError, match="None of the hosts"):
            feed_connection("default")
    finally:
        using.update(before)


async def test_a_feed_with_these_keywords_connects(django_postgres: Database) -> None:
    async with WalFeed(**feed_connection("default"), plugin="test_decoding") as feed:
        await anext(aiter(feed))
        assert feed.slot_name in django_postgres.slots()
