"""runnudge as users run it: a process, a PostgreSQL, a Redis."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from django.core.management import call_command
from django.db import connections
from servers.process import ServerFailedError, free_port, wait_until

from django_pgnudge.daemon import Daemon
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings
    from servers.postgres import Postgres
    from servers.redis import Redis

    from tests.fix_servers import Database

PRICES = "CREATE TABLE prices (id int PRIMARY KEY, price int)"


class Process:
    """One ``manage.py runnudge``, with its lines."""

    def __init__(self, settings: dict[str, Any], *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "django", "runnudge", *arguments],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {
                "DJANGO_SETTINGS_MODULE": "tests.process_settings",
                "PGNUDGE_TEST_SETTINGS": json.dumps(settings),
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            },
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        with self.popen.stdout as lines:
            self.lines.extend(lines)

    def saw(self, words: str, times: int = 1) -> None:
        def there() -> bool:
            assert self.popen.poll() is None or self._count(words) >= times, "".join(self.lines)
            return self._count(words) >= times

        try:
            wait_until(there, repr(words), timeout=15)
        except ServerFailedError as error:
            pytest.fail(f"{error}\n{''.join(self.lines)}")

    def _count(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.result()

    def result(self) -> int:
        status = self.popen.wait(20)
        self._reader.join(10)
        return status


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(settings: dict[str, Any], *arguments: str) -> Process:
        started.append(Process(settings, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.result()


@pytest.fixture
def site(django_postgres: Database, redis_server: Redis, settings: Settings) -> dict[str, Any]:
    """The settings of a site whose key "prices" depends on a table."""
    keep = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    default = connections.settings["default"]
    made: dict[str, Any] = {
        "DATABASES": {"default": {key: default[key] for key in keep}},
        "CACHES": {
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
        },
        "INSTALLED_APPS": ["django_pgnudge"],
        "PGNUDGE": {"INVALIDATE": {"public.prices": ["prices", "price:{pk}"]}},
    }
    # The test app's own rules name a second cache.
    settings.CACHES = made["CACHES"] | {"fast": made["CACHES"]["default"]}
    django_postgres.execute(PRICES, "INSERT INTO prices SELECT g, 0 FROM generate_series(1, 9) g")
    return made


@pytest.fixture
def cached() -> Callable[[], list[str]]:
    def left() -> list[str]:
        # Looked up each time: a test may point its settings at another cache.
        cache = django_caches["default"]
        return sorted(cache.get_many(["prices", "price:1", "price:2", "other"]))

    return left


def fill() -> None:
    django_caches["default"].set_many(dict.fromkeys(["prices", "price:1", "price:2", "other"], 1))


@pytest.fixture
def run_cleared(run: Callable[..., Process], cached: Any) -> Callable[..., Process]:
    """Like ``run``; returns when the first Resync is over, which would clear what comes before.

    The line in the log does not say so: it comes before the clearing.
    """

    def start(settings: dict[str, Any], *arguments: str) -> Process:
        fill()
        process = run(settings, *arguments)
        wait_until(lambda: not cached(), "the first resync")
        return process

    return start


def test_a_cache_in_the_followed_database_is_not_followed(
    run: Callable[..., Process], site: dict[str, Any], settings: Settings, django_postgres: Database
) -> None:
    """What the daemon deletes there would come back, and be deleted again."""
    table = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "kept"}
    site["CACHES"] = {"default": table}
    site["PGNUDGE"]["NUDGED"] = {"CACHES": ["default"]}
    settings.CACHES = {"default": table, "fast": table}
    call_command("createcachetable", verbosity=0)
    process = run(site, "--verbosity=3")
    process.saw("Resync (connected)")
    for number in range(3):
        fill()
        django_postgres.execute(f"UPDATE prices SET price = {number} WHERE id = 1")
        process.saw("public.prices (1 row)", number + 1)
    assert process.end() == 0
    assert not [line for line in process.lines if "public.kept" in line]


def test_a_commit_deletes_the_keys_and_sigterm_leaves_with_0_and_no_slot(
    run_cleared: Any, site: dict[str, Any], cached: Any, django_postgres: Database
) -> None:
    process = run_cleared(site)
    process.saw("Resync (connected)")
    fill()
    django_postgres.execute("UPDATE prices SET price = 1 WHERE id = 1")
    process.saw("public.prices (1 row): 2 keys deleted")
    assert cached() == ["other", "price:2"]
    fill()
    django_postgres.execute("UPDATE prices SET price = 2", "TRUNCATE prices")
    wait_until(lambda: cached() == ["other"], "the keys of all rows")
    assert process.end() == 0
    assert "Stopped after" in process.lines[-1]
    assert django_postgres.slots() == []
    output = "".join(process.lines)
    assert "Connected to PostgreSQL" in output
    assert "ms from commit" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_leave_with_0(
    run: Any, site: dict[str, Any], django_postgres: Database, number: int
) -> None:
    process = run(site)
    process.saw("Connected")
    assert process.end(number) == 0
    assert "Stopped after" in process.lines[-1]
    assert "Traceback" not in "".join(process.lines)
    assert django_postgres.slots() == []


def test_ctrl_c_while_the_server_is_down_leaves_with_0(run: Any, site: dict[str, Any]) -> None:
    site["DATABASES"]["default"]["PORT"] = str(free_port())
    process = run(site)
    process.saw("cannot connect")
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once(
    run: Any, site: dict[str, Any], django_postgres: Database, number: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    entered = tmp_path / "entered"
    site["INSTALLED_APPS"] = ["django_pgnudge", "tests.stubborn"]
    monkeypatch.setenv("STUBBORN", str(entered))
    process = run(site)
    process.saw("Connected")
    django_postgres.execute("UPDATE prices SET price = 1")
    wait_until(entered.exists, "the receiver that never returns")
    process.popen.send_signal(number)
    process.saw("finishing the batch in hand")
    assert process.popen.poll() is None
    assert process.end(number) == -number


@pytest.mark.parametrize(
    "rude",
    [
        "raise_exit", "raise_interrupt", "close_connection", "break_transaction",
        "leave_atomic_open",
    ],
)  # fmt: skip
def test_a_rude_receiver_takes_neither_the_daemon_nor_the_connection_down(
    run_cleared: Any, site: dict[str, Any], cached: Any, django_postgres: Database, rude: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RUDE", rude)
    site["INSTALLED_APPS"] = ["django_pgnudge", "tests.rude"]
    process = run_cleared(site)
    for price in (1, 2, 3):
        fill()
        django_postgres.execute(f"UPDATE prices SET price = {price} WHERE id = 1")
        process.saw(f"price is {price}")
        assert cached() == ["other", "price:2"]
    assert process.end() == 0


def test_a_log_that_cannot_be_written_stops_nothing(
    run_cleared: Any, site: dict[str, Any], cached: Any, django_postgres: Database
) -> None:
    site["LOGGING"] = {
        "version": 1,
        "handlers": {"full": {"class": "tests.rude.handler.FullDisk"}},
        "loggers": {"django_pgnudge": {"handlers": ["full"], "level": "DEBUG"}},
    }
    process = run_cleared(site)
    for price in (1, 2):
        fill()
        django_postgres.execute(f"UPDATE prices SET price = {price} WHERE id = 1")
        wait_until(lambda: cached() == ["other", "price:2"], "the deletes")
    django_postgres.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
    wait_until(lambda: not cached(), "the resync after the reconnect")
    process.saw("no space left on device")
    assert process.end() == 0


def test_a_server_that_restarts_is_waited_for_and_what_was_missed_is_cleared(
    run_cleared: Any, site: dict[str, Any], cached: Any, postgres_factory: Callable[..., Postgres]
) -> None:
    server = postgres_factory()
    server.create_database("shop")
    with server.connect("shop") as connection:
        connection.execute(PRICES)
    site["DATABASES"]["default"].update(
        HOST=server.host, PORT=str(server.port), USER=server.user, NAME="shop",
        PASSWORD=server.password or "",
    )  # fmt: skip
    process = run_cleared(site)
    fill()
    server.restart("immediate")
    process.saw("Resync (reconnected)")
    wait_until(lambda: not cached(), "the resync")
    assert process.end() == 0


def test_of_several_hosts_the_next_is_followed_when_the_first_fails_over(
    run_cleared: Any, site: dict[str, Any], cached: Any, postgres_factory: Callable[..., Postgres]
) -> None:
    servers = [postgres_factory(), postgres_factory()]
    for server in servers:
        server.create_database("shop")
        with server.connect("shop") as connection:
            connection.execute(PRICES)
            connection.execute("INSERT INTO prices VALUES (1, 0)")
    first, second = servers
    site["DATABASES"]["default"].update(
        HOST=f"{first.host},{second.host}", PORT=f"{first.port},{second.port}", USER=first.user,
        NAME="shop", PASSWORD=first.password or "",
    )  # fmt: skip
    process = run_cleared(site)
    fill()
    first.stop()
    process.saw("Resync (reconnected)")
    wait_until(lambda: not cached(), "the resync of the next host")
    fill()
    with second.connect("shop") as connection:
        connection.execute("UPDATE prices SET price = 1")
    wait_until(lambda: cached() == ["other", "price:2"], "the deletes")
    output = "".join(process.lines)
    assert output.count("Connected to PostgreSQL") == 2
    assert "streaming from" not in output
    assert process.end() == 0


def test_a_redis_that_dies_and_comes_back_with_old_keys_is_cleared(
    run_cleared: Any, site: dict[str, Any], redis_factory: Callable[..., Redis],
    django_postgres: Database, cached: Any, settings: Settings,
) -> None:  # fmt: skip
    redis = redis_factory()
    site["CACHES"]["default"] |= {
        "LOCATION": redis.url, "OPTIONS": {"IGNORE_EXCEPTIONS": True}
    }  # fmt: skip
    settings.CACHES = site["CACHES"]
    process = run_cleared(site)
    fill()
    redis.save()
    redis.kill()
    django_postgres.execute("UPDATE prices SET price = 1 WHERE id = 2")
    process.saw("kept and retried")
    redis.start()
    process.saw("is back after")
    assert cached() == []
    assert process.end() == 0


def test_check_says_what_would_happen_and_touches_no_cache(
    site: dict[str, Any], settings: Settings, cached: Any, django_postgres: Database
) -> None:
    settings.PGNUDGE = site["PGNUDGE"]
    fill()
    out = io.StringIO()
    call_command("runnudge", check=True, plugin="test_decoding", stdout=out)
    assert "public.prices" in out.getvalue()
    assert cached() == ["other", "price:1", "price:2", "prices"]
    assert django_postgres.slots() == []


def test_collections_leave_out_what_was_there_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = []

    async def run(daemon: Daemon) -> None:
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(Daemon, "run", run)
    call_command("runnudge")
    assert frozen[0] > 10_000
    assert gc.get_freeze_count() == 0
