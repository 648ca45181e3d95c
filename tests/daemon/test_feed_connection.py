"""connection: the feed goes where Django's own driver would go. libpq itself is the oracle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from servers.process import free_port

from django_pgnudge.daemon.feed_connection import feed_connection
from django_pgnudge.errors import ConfigError, ConnectionLostError
from django_pgnudge.feed import TLS, WalFeed
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def test_the_methods_of_authentication_that_libpq_is_to_accept_are_the_feeds(
    alias: dict[str, Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "require_auth" not in resolved()
    monkeypatch.setenv("PGREQUIREAUTH", "!password")
    assert resolved()["require_auth"] == "!password"
    alias["OPTIONS"] = {"require_auth": "md5,scram-sha-256"}
    assert resolved()["require_auth"] == "md5,scram-sha-256"
    settings.PGNUDGE = {"CONNECTION": {"require_auth": "scram-sha-256"}}
    assert resolved()["require_auth"] == "scram-sha-256"


@pytest.mark.parametrize("where", [{"host": "/run/nowhere"}, {"sslmode": "disable"}])
def test_channel_binding_is_required_also_where_there_is_no_tls_to_bind_to(
    alias: dict[str, Any], settings: Settings, where: dict[str, str]
) -> None:
    settings.PGNUDGE = {"CONNECTION": {**where, "channel_binding": "require"}}
    assert resolved()["ssl"] == TLS("disable", channel_binding="require")


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
        ({"require_auth": "scram-sha-257"}, "require_auth"),
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


def test_a_primary_is_looked_for_where_one_is_asked_for(django_postgres: Database) -> None:
    using = connections.settings["default"]
    before = dict(using)
    try:
        using["OPTIONS"] = {"target_session_attrs": "read-write"}
        assert resolved()["host"] == django_postgres.postgres.host
        using["OPTIONS"] = {"target_session_attrs": "read-only"}
        with pytest.raises(ConnectionLostError, match=r"None of the hosts.*not read-only"):
            feed_connection("default")
    finally:
        using.update(before)


def test_a_port_that_is_no_number_is_named(alias: dict[str, Any]) -> None:
    alias["PORT"] = "five"
    with pytest.raises(ConfigError, match="five"):
        feed_connection("default")


def test_what_django_refuses_is_a_config_error(alias: dict[str, Any]) -> None:
    alias["NAME"] = "n" * 64
    with pytest.raises(ConfigError, match=r"63 characters|longer"):
        feed_connection("default")


def test_the_application_name_is_the_feeds(alias: dict[str, Any], settings: Settings) -> None:
    settings.PGNUDGE = {"CONNECTION": {"application_name": "nudger"}}
    assert resolved()["application_name"] == "nudger"


PSYCOPG2 = """
import json, os, sys
sys.modules["psycopg"] = None  # as if it were not installed
import django
django.setup()
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from django_pgnudge.daemon.feed_connection import feed_connection
from django_pgnudge.errors import PgNudgeError
assert not is_psycopg3
try:
    found = feed_connection("default")
except PgNudgeError as error:
    found = {type(error).__name__: str(error)}
print(json.dumps(found, default=repr))
"""


class TestPsycopg2:
    """The same with the older driver, in a process that has no other, on a real server."""

    @pytest.fixture
    def ask(self, django_postgres: Database) -> Callable[..., dict[str, Any]]:
        server = django_postgres.postgres
        own: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql", "HOST": server.host,
            "PORT": str(server.port), "USER": server.user, "PASSWORD": "",
            "NAME": django_postgres.name,
        }  # fmt: skip

        def ask(*, pgnudge: Any = None, environment: Any = None, **given: Any) -> dict[str, Any]:
            made = {"DATABASES": {"default": own | given}, "PGNUDGE": pgnudge or {}}
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", PSYCOPG2],
                capture_output=True, text=True, check=False, cwd=ROOT,
                env=os.environ | (environment or {}) | {
                    "DJANGO_SETTINGS_MODULE": "tests.process_settings",
                    "PGNUDGE_TEST_SETTINGS": json.dumps(made),
                    "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                },
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            found: dict[str, Any] = json.loads(done.stdout)
            return found

        return ask

    def test_plain_tcp(self, ask: Any, django_postgres: Database) -> None:
        server = django_postgres.postgres
        found = ask(PASSWORD="s3cret")
        assert (found["host"], found["port"]) == (server.host, server.port)
        assert (found["user"], found["password"]) == (server.user, "s3cret")
        assert found["database"] == django_postgres.name

    def test_the_unix_socket(self, ask: Any, django_postgres: Database) -> None:
        directory = django_postgres.postgres.socket_dir
        if directory is None:
            pytest.skip("this server has no Unix socket")
        found = ask(HOST=str(directory))
        assert (found["host"], found["ssl"]) == (str(directory), False)

    def test_the_environment(self, ask: Any, django_postgres: Database) -> None:
        server = django_postgres.postgres
        found = ask(
            HOST="", PORT="", USER="",
            environment={
                "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user,
                "PGPASSWORD": "from-env", "PGSSLMODE": "disable",
            },
        )  # fmt: skip
        assert (found["host"], found["port"]) == (server.host, server.port)
        assert (found["user"], found["password"], found["ssl"]) == (server.user, "from-env", False)

    def test_a_service_and_a_password_file(
        self, ask: Any, django_postgres: Database, tmp_path: Path
    ) -> None:
        server = django_postgres.postgres
        services, passwords = tmp_path / "services", tmp_path / "passwords"
        services.write_text(
            f"[shop]\nhost={server.host}\nport={server.port}\nuser={server.user}\n"
            f"dbname={django_postgres.name}\n"
        )
        passwords.write_text(f"*:*:{django_postgres.name}:{server.user}:from-file\n")
        passwords.chmod(0o600)
        found = ask(
            HOST="", PORT="", USER="", NAME="",
            OPTIONS={"service": "shop", "passfile": str(passwords)},
            environment={"PGSERVICEFILE": str(services)},
        )  # fmt: skip
        assert (found["host"], found["port"]) == (server.host, server.port)
        assert (found["user"], found["password"]) == (server.user, "from-file")
        assert found["database"] == django_postgres.name

    def test_of_several_hosts_the_one_that_answers_is_taken(
        self, ask: Any, django_postgres: Database
    ) -> None:
        server = django_postgres.postgres
        found = ask(HOST=f"127.0.0.1,{server.host}", PORT=f"{free_port()},{server.port}")
        assert (found["host"], found["port"]) == (server.host, server.port)

    def test_a_server_that_is_down_is_waited_for(self, ask: Any, tmp_path: Path) -> None:
        port = str(free_port())
        found = ask(PORT=port, USER="joe", PASSWORD="pw")
        assert (found["host"], found["port"]) == ("127.0.0.1", int(port))
        # Without a socket the driver fails at once, and gives nothing back.
        found = ask(HOST=str(tmp_path), USER="joe", PASSWORD="pw", PORT="")
        assert (found["host"], found["port"], found["password"]) == (str(tmp_path), 5432, "pw")
        # What only libpq could fill in is not guessed.
        found = ask(HOST=str(tmp_path), USER="joe")
        assert "does not answer" in found["ConnectionLostError"]

    @pytest.mark.parametrize(
        "demand", ["PGREQUIREAUTH=md5", "PGSSLMODE=verify-full", "PGCHANNELBINDING=require"]
    )
    def test_what_the_environment_demands_is_not_lost_where_the_driver_gives_nothing_back(
        self, ask: Any, tmp_path: Path, demand: str
    ) -> None:
        name, _, value = demand.partition("=")
        given = {"HOST": str(tmp_path), "USER": "joe", "PASSWORD": "pw", "PORT": ""}
        found = ask(**given, environment={name: value})
        assert "does not answer" in found["ConnectionLostError"]
        found = ask(**given, environment={"PGAPPNAME": "shop"})
        assert found["user"] == "joe"

    def test_a_mistake_is_told_without_the_password(self, ask: Any) -> None:
        found = ask(PASSWORD="s3cret", OPTIONS={"no_such_option": 1})
        assert "no_such_option" in found["ConfigError"]
        assert "s3cret" not in found["ConfigError"]


async def test_a_feed_with_these_keywords_connects(django_postgres: Database) -> None:
    async with WalFeed(**feed_connection("default"), plugin="test_decoding") as feed:
        await anext(aiter(feed))
        assert feed.slot_name in django_postgres.slots()
