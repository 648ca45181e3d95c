"""Django's database aliases on the running servers.

Two ways, never both in one test:

- pytest-django's own (`db`, `transactional_db`, `@pytest.mark.django_db`): test databases on
  `any_postgres`, migrated once for the session. For tests of models, checks and the registry.
- `django_postgres`: `default` and `other` are fresh migrated databases on the *test's* server (its
  `feed_server`, `postgres`, or any), with real commits that a feed sees, dropped afterwards. For
  tests with a feed or the daemon. It gives the `Database` of `default`; `Database` of `other` is
  the fixture `other_database`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.db import connections

from django_pgnudge.reader.state import empty_states
from tests.fix_servers import Database, fresh_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import DjangoDbBlocker
    from servers.postgres import DatabaseServer

ALIASES = ("default", "other")
TEMPLATE = "pgnudge_template"


def point(alias: str, server: DatabaseServer, name: str) -> None:
    """Let an alias lead to a database. Every thread's connection object shares this dict."""
    connections.settings[alias].update(
        {
            "HOST": server.host,
            "PORT": str(server.port),
            "USER": server.user,
            "PASSWORD": server.password or "",
            "NAME": name,
        }
    )


@contextlib.contextmanager
def pointed(server: DatabaseServer, names: dict[str, str]) -> Iterator[None]:
    """The aliases lead to these databases inside the block, and back where they led after it."""
    before = {alias: dict(connections.settings[alias]) for alias in names}
    for alias, name in names.items():
        connections[alias].close()
        point(alias, server, name)
    try:
        with empty_states():  # readers know the databases that the aliases led to before
            yield
    finally:
        for alias in names:
            connections[alias].close()
            connections.settings[alias].update(before[alias])


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """pytest-django asks for this before it creates its test databases."""
    server: DatabaseServer = request.getfixturevalue("any_postgres")
    for alias in ALIASES:
        point(alias, server, f"pgnudge_{alias}")


@pytest.fixture
def django_postgres(
    request: pytest.FixtureRequest,
    test_server: tuple[DatabaseServer, str],
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Database]:
    if request.node.get_closest_marker("django_db") or {"db", "transactional_db"} & set(
        request.fixturenames
    ):
        pytest.fail(
            "Take django_postgres or pytest-django's database, not both: see fix_django.py."
        )
    server, plugin = test_server
    names = {alias: fresh_name(alias) for alias in ALIASES}
    with django_db_blocker.unblock():
        if not server.has_database(TEMPLATE):
            migrate_template(server)
        for name in names.values():
            server.create_database(name, template=TEMPLATE)
        try:
            with pointed(server, names):
                yield Database(server, names["default"], plugin)
        finally:
            for name in names.values():
                server.drop_database(name)


@pytest.fixture
def column_lists(django_postgres: Database) -> None:
    """Publications there may have lists of columns."""
    if django_postgres.postgres.installation.version[0] < 15:
        pytest.skip("lists of columns came with PostgreSQL 15")


@pytest.fixture
def other_database(django_postgres: Database) -> Database:
    """The database behind the alias `other`."""
    name = connections.settings["other"]["NAME"]
    return Database(django_postgres.postgres, name, django_postgres.plugin)


def migrate_template(server: DatabaseServer) -> None:
    """A migrated database to copy: a copy takes a tenth of the time of the migrations."""
    scratch = f"{TEMPLATE}_scratch"
    server.drop_database(scratch)
    server.create_database(scratch)
    with pointed(server, {"default": scratch}):
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    server.execute(f"ALTER DATABASE {scratch} RENAME TO {TEMPLATE}")
