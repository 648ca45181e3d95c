"""runnudge in this process: mistakes that end it, and with which words."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings
    from servers.postgres import Postgres

    from tests.fix_servers import Database


class WebServer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def mistake(**options: Any) -> str:
    with pytest.raises(CommandError) as caught:
        call_command("runnudge", **options)
    return str(caught.value)


@pytest.mark.usefixtures("django_postgres")
class TestPermanentMistakes:
    """Each ends the first connect in words that name the fix."""

    @pytest.fixture(autouse=True)
    def restored(self) -> Iterator[dict[str, Any]]:
        using = connections.settings["default"]
        before = dict(using)
        yield using
        connections["default"].close()
        using.clear()
        using.update(before)

    @pytest.fixture
    def using(self, restored: dict[str, Any]) -> dict[str, Any]:
        return restored

    def test_wal_level(
        self, using: dict[str, Any], postgres_factory: Callable[..., Postgres]
    ) -> None:
        server = postgres_factory(settings={"wal_level": "replica"})
        using.update(
            HOST=server.host, PORT=str(server.port), USER=server.user, NAME="postgres",
            PASSWORD=server.password or "",
        )  # fmt: skip
        assert "Set wal_level = logical" in mistake()

    def test_a_role_without_replication(
        self, using: dict[str, Any], django_postgres: Database
    ) -> None:
        django_postgres.execute("DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN PASSWORD 'p'")
        using.update(USER="plain", PASSWORD="p")
        assert "REPLICATION attribute" in mistake()

    def test_a_plugin_that_is_not_installed_or_not_allowed(self, django_postgres: Database) -> None:
        if "wal2json" in django_postgres.postgres.plugins:
            pytest.skip("this server has wal2json")
        said = mistake(plugin="wal2json")
        assert "not installed" in said or "output_plugin_libraries" in said

    def test_a_publication_that_does_not_exist(self) -> None:
        assert "CreatePublication" in mistake(plugin="pgoutput", publication="nope")

    def test_a_database_that_does_not_exist(self, using: dict[str, Any]) -> None:
        using["NAME"] = "no_such_database"
        assert "Check the database's name" in mistake()

    def test_a_user_that_does_not_exist(self, using: dict[str, Any]) -> None:
        using.update(USER="nobody_here", PASSWORD="wrong")
        said = mistake()
        assert "Check the user" in said or "Check user and password" in said
        assert "wrong" not in said

    def test_something_that_is_not_postgresql(self, using: dict[str, Any]) -> None:
        with socketserver.TCPServer(("127.0.0.1", 0), WebServer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            using.update(HOST="127.0.0.1", PORT=str(server.server_address[1]))
            using["OPTIONS"] = {"sslmode": "disable"}
            try:
                assert "does not speak PostgreSQL" in mistake()
            finally:
                server.shutdown()

    def test_tls_that_the_server_does_not_offer(self, using: dict[str, Any]) -> None:
        using["HOST"] = "127.0.0.1"
        using["OPTIONS"] = {"sslmode": "verify-full", "sslrootcert": "/nowhere.pem"}
        assert "Check sslmode" in mistake()

    def test_a_setting_that_cannot_be(self, settings: Settings) -> None:
        settings.PGNUDGE = {"PLUGIN": "decoderbufs"}
        assert 'PGNUDGE["PLUGIN"]' in mistake()
        settings.PGNUDGE = {}
        assert "debounce" in mistake(debounce=-1.0)
