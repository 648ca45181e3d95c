"""servers/: a server is found, started, crashed, brought back, and gone when it is stopped or its
owner dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from servers import installations as installations_module
from servers.installations import PLUGINS, Installation, find_installations, inspect_bindir
from servers.postgres import Postgres, reachable_directory
from servers.process import (
    Account,
    PortBusyError,
    ServerFailedError,
    can_traverse,
    processes_below,
    wait_until,
)
from servers.redis import Redis, find_redis

from tests import ROOT
from tests.fix_servers import installations

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database, FeedServer
    from tests.fix_tls import Certificates

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "example_project"


def test_servers_that_are_named_come_first_and_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PGNUDGE_TEST_POSTGRES", raising=False)
    found = [each for each in find_installations(docker=False) if each.bindir is not None]
    last = found[-1]
    monkeypatch.setenv("PGNUDGE_TEST_POSTGRES", f"{last.bindir}")
    first = find_installations(docker=False)[0]
    assert (first.name, first.source) == (last.name, "given")
    monkeypatch.setenv("PGNUDGE_TEST_POSTGRES", f"{last.bindir}:{tmp_path}")
    with pytest.raises(ServerFailedError, match="no PostgreSQL runs from there"):
        find_installations(docker=False)


def test_each_major_version_is_found_once_and_offers_a_plugin() -> None:
    found = find_installations(docker=False)
    assert len({each.version[0] for each in found}) == len(found)
    assert all(each.plugins for each in found)


def test_docker_is_not_asked_where_it_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGNUDGE_TEST_DOCKER", "0")
    monkeypatch.setattr(installations_module, "docker_answers", lambda: pytest.fail("asked"))
    find_installations()


def test_a_docker_engine_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGNUDGE_TEST_POSTGRES", raising=False)
    monkeypatch.setattr(installations_module, "docker_answers", lambda: True)
    found = find_installations(docker=True)
    assert (found[0].name, found[0].source) == ("pg17", "docker")
    assert "wal2json" not in found[0].plugins


def test_a_folder_without_a_working_server_is_no_installation(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("not a program")
    assert inspect_bindir(tmp_path, "installed") is None


def test_a_server_streams_logically_and_loads_its_plugins(feed_server: FeedServer) -> None:
    server = feed_server.postgres
    assert server.execute("SHOW wal_level") == [("logical",)]
    server.execute(
        # A name of its own: the session that made the one before may still be about to end.
        f"SELECT pg_create_logical_replication_slot('probe_{feed_server.plugin}',"
        f" '{feed_server.plugin}', true)"
    )


def test_an_older_minor_is_not_given_the_setting_it_does_not_know(postgres: DatabaseServer) -> None:
    known = postgres.execute("SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'")
    assert bool(known) == postgres.installation.knows_plugin_list


def test_only_a_server_that_knows_the_list_of_plugins_is_given_one(
    postgres_factory: Callable[..., Postgres], postgres: DatabaseServer
) -> None:
    server = postgres_factory()
    written = "output_plugin_libraries" in (server.data / "postgresql.conf").read_text()
    assert written == server.installation.knows_plugin_list


def test_a_wheel_in_a_private_folder_is_copied_with_its_libraries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private = tmp_path / "private"
    bindir = private / "package" / "pginstall" / "bin"
    bindir.mkdir(parents=True)
    (bindir / "postgres").write_text("program")
    (private / "package.libs").mkdir()
    (private / "package.libs" / "libpq.so").write_text("library")
    private.chmod(0o700)
    stranger = Account("stranger", os.getuid() + 1, os.getgid() + 1)
    installation = Installation("pg16", "embedded", (16, 0), ("pgoutput",), bindir=bindir)
    program = installation.program("postgres", stranger)
    assert not program.is_relative_to(private)
    assert program.read_text() == "program"
    assert (program.parents[3] / "package.libs" / "libpq.so").read_text() == "library"
    assert installation.program("postgres", stranger) == program
    assert installation.program("postgres") == bindir / "postgres"


def test_tcp_and_the_unix_socket_lead_to_the_same_server(
    postgres_factory: Callable[..., Postgres],
) -> None:
    server = postgres_factory()
    places = [{"host": str(server.socket_dir)}, {"host": "127.0.0.1"}]
    ids = set()
    for place in places:
        with psycopg.connect(server.dsn(**place)) as connection:
            ids |= set(connection.execute("SELECT system_identifier FROM pg_control_system()"))
    assert len(ids) == 1


def test_data_survive_a_crash_and_the_port_stays(postgres_factory: Callable[..., Postgres]) -> None:
    server = postgres_factory()
    port = server.port
    server.execute("CREATE TABLE t AS SELECT 7 AS n")
    crashes: list[Callable[[], None]] = [partial(server.restart, "immediate"), server.kill]
    for crash in [*crashes, server.restart]:
        crash()
        server.start()
        assert server.port == port
        assert server.execute("SELECT n FROM t") == [(7,)]


@pytest.mark.parametrize("keep", [True, False])
def test_the_socket_of_a_server_at_a_long_path_comes_and_goes_with_it(
    keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [each for each in installations() if each.bindir is not None]
    if not found:
        pytest.skip("no PostgreSQL programs here")
    place = reachable_directory(tmp_path / ("a" * 90))
    place.mkdir(parents=True)
    if keep:
        server = Postgres(found[0], place)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        place.chmod(0o755)
        server = Postgres(found[0])
    try:
        for _ in range(2):
            server.start()
            sockets = server.socket_dir
            assert sockets is not None
            assert sockets != server.directory
            assert server.execute("SELECT 1") == [(1,)]
            server.stop()
            assert not sockets.exists()
    finally:
        server.stop()
        shutil.rmtree(place)


def test_nothing_is_left_of_a_stopped_server(postgres_factory: Callable[..., Postgres]) -> None:
    server = postgres_factory()
    folder = server.directory
    assert len(processes_below(folder)) > 1 or not Path("/proc").exists()
    server.stop()
    assert not folder.exists()
    assert processes_below(folder) == []


def test_settings_and_hba_come_in_place_of_the_defaults(
    postgres_factory: Callable[..., Postgres],
) -> None:
    server = postgres_factory(
        settings={"wal_sender_timeout": "7s", "application_name": "it's"},
        hba=["host all all 127.0.0.1/32 reject"],
    )
    assert server.execute("SHOW wal_sender_timeout") == [("7s",)]
    assert server.execute("SHOW application_name") == [("it's",)]
    with pytest.raises(psycopg.OperationalError, match="rejects"):
        psycopg.connect(server.dsn())
    server.set_hba(["host all all 127.0.0.1/32 trust"])
    psycopg.connect(server.dsn()).close()


def test_a_server_that_does_not_start_says_why(postgres_factory: Callable[..., Postgres]) -> None:
    with pytest.raises(ServerFailedError, match="unrecognized configuration parameter"):
        postgres_factory(settings={"no_such_setting": "on"})


def test_a_busy_port_is_reported_in_words(postgres_factory: Callable[..., Postgres]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortBusyError, match=f"Port {port} .* in use"):
            postgres_factory(port=port)
        program = find_redis(given=False)
        if program is not None:
            with pytest.raises(PortBusyError, match=f"Port {port} .* in use"):
                Redis(program, port=port).start()


def test_a_kept_directory_is_found_again(
    postgres_factory: Callable[..., Postgres], tmp_path_factory: pytest.TempPathFactory
) -> None:
    probe = postgres_factory()
    # Below a server's own temporary directory, which its user can reach.
    kept = probe.directory / "kept"
    first = postgres_factory(directory=kept, durable=True)
    first.execute("CREATE TABLE t AS SELECT 7 AS n")
    first.stop()
    second = postgres_factory(directory=kept, durable=True)
    assert second.execute("SELECT n FROM t") == [(7,)]


def test_a_private_folder_is_named_to_whoever_may_not_enter_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    stranger = Account("stranger", os.getuid() + 1, os.getgid() + 1)
    assert not can_traverse(tmp_path / "data", stranger)
    assert can_traverse(tmp_path / "data", None)
    if os.geteuid() == 0:
        assert reachable_directory(tmp_path / "data").is_relative_to("/var/tmp")
    else:
        assert reachable_directory(tmp_path / "data") == tmp_path / "data"


def test_a_tls_server_takes_verified_connections(
    postgres_factory: Callable[..., Postgres], certificates: Certificates
) -> None:
    server = postgres_factory(
        tls=certificates.server_tls(), hba=["hostssl all all 127.0.0.1/32 cert"]
    )
    with psycopg.connect(
        server.dsn(
            sslmode="verify-full",
            sslrootcert=certificates.ca,
            sslcert=certificates.client.cert,
            sslkey=certificates.client.key,
        )
    ) as connection:
        assert connection.pgconn.ssl_in_use
    for pair, words in (
        (certificates.wrong_host, "does not match host name"),
        (certificates.expired, "verify failed"),
        (certificates.untrusted, "verify failed"),
    ):
        server.tls = certificates.server_tls(pair)
        server.restart()
        with pytest.raises(psycopg.OperationalError, match=words):
            psycopg.connect(server.dsn(sslmode="verify-full", sslrootcert=certificates.ca))


def test_a_database_is_dropped_under_an_active_replication_slot(
    feed_server: FeedServer, database: Database
) -> None:
    server = feed_server.postgres
    # Not every package brings the program; any version's speaks to each server.
    bindirs = [each.bindir for each in (server.installation, *installations())]
    programs = [bindir / "pg_recvlogical" for bindir in bindirs if bindir is not None]
    program = next((each for each in programs if each.exists()), None)
    if program is None:
        pytest.skip("no pg_recvlogical here: install PostgreSQL")
    name = f"{database.name}_held"
    server.create_database(name)
    holder = subprocess.Popen(
        [
            program,
            *("-d", server.dsn(name), "--slot=held", "--create-slot", "--start", "--no-loop"),
            *("-P", feed_server.plugin, "-f", os.devnull),
            *(
                ("-o", "proto_version=1", "-o", "publication_names=x")
                if feed_server.plugin == "pgoutput"
                else ()
            ),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: (
                server.execute(f"SELECT active FROM pg_replication_slots WHERE database = '{name}'")
                == [(True,)]
            ),
            "the slot to be held",
        )
        server.drop_database(name)
        assert not server.has_database(name)
    finally:
        holder.kill()
        holder.wait()
        server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = 'held'"
        )


def is_left(folder: Path) -> bool:
    return not processes_below(folder)


def is_gone(folder: Path) -> bool:
    return not folder.exists()


OWNER = """
import os, sys
from servers.postgres import Postgres, find_installations
from servers.redis import Redis, find_redis
postgres = Postgres(find_installations(docker=False)[0]).start()
redis = Redis(find_redis(given=False)).start()
print(postgres.directory, redis.directory, flush=True)
sys.stdin.read()
sys.exit(3)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc here to look for processes")
@pytest.mark.parametrize("ending", ["exit", "SIGKILL", "SIGHUP"])
def test_servers_end_with_their_owner_however_it_ends(ending: str) -> None:
    if find_redis(given=False) is None or not find_installations(docker=False):
        pytest.skip("no servers here to start")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(EXAMPLE)},
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner:
        folders = [Path(word) for word in owner.stdout.readline().split()]
        assert all(processes_below(folder) for folder in folders)
        if ending == "exit":
            owner.stdin.close()
        else:
            owner.send_signal(signal.Signals[ending])
        owner.wait(30)
    for folder in folders:
        wait_until(partial(is_left, folder), f"{folder} to be left")
        wait_until(partial(is_gone, folder), f"{folder} to be removed")


def test_every_plugin_has_a_place_in_the_matrix() -> None:
    assert set(PLUGINS) == {"pgoutput", "wal2json", "test_decoding"}
