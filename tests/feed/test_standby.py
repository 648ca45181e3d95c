"""A feed from a standby, which PostgreSQL 16 and later can decode on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from servers.process import free_port

from django_pgnudge import WalFeed
from django_pgnudge.registry.catalog import read_identity

from ..fix_servers import installations
from .following import eventually, following, run


class Standby:
    """A copy of a primary that replays its log."""

    def __init__(self, primary: Any) -> None:
        self.primary = primary
        self.data = Path(f"{primary.data}-standby")
        self.port = free_port()
        self._user = os.stat(primary.data)

    def _run(self, program: str, *arguments: str) -> None:
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = {"user": self._user.st_uid, "group": self._user.st_gid, "extra_groups": []}
        command = [str(self.primary.installation.bindir / program), *arguments]
        with open(os.devnull, "w") as quiet:
            subprocess.run(command, check=True, cwd="/", stdout=quiet, stderr=quiet, **account)

    def start(self) -> None:
        source = ["-h", self.primary.host, "-p", str(self.primary.port), "-U", self.primary.user]
        self._run(
            "pg_basebackup", *source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast"
        )
        options = f"-p {self.port} -k {self.primary.socket_dir} -c hot_standby_feedback=on"
        log = f"{self.data}.log"
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", log, "-o", options, "start")

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "promote")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
        shutil.rmtree(self.data, ignore_errors=True)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        where = {"host": self.primary.host, "port": self.port, "user": self.primary.user}
        with psycopg.connect(dbname="app", **where) as connection:
            return connection.execute(sql.encode()).fetchall()


@pytest.fixture
def standby(postgres_factory: Any) -> Iterator[Standby]:
    able = [each for each in installations() if each.version[0] >= 16 and each.bindir is not None]
    if not able:
        pytest.skip("no PostgreSQL 16 or later here: a standby cannot be decoded on before")
    primary = postgres_factory(able[0])
    primary.create_database("app")
    primary.execute("CREATE TABLE t (id int PRIMARY KEY)", "app")
    primary.execute("CREATE PUBLICATION every FOR ALL TABLES", "app")
    made = Standby(primary)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_a_standby_is_the_same_database_as_its_primary_before_and_after_its_promotion(standby):
    def identity(port: int) -> str | None:
        where = {"host": standby.primary.host, "port": port, "user": standby.primary.user}
        with psycopg.connect(dbname="app", **where) as connection:
            return read_identity(cast("Any", connection.cursor()))

    expected = identity(standby.primary.port)
    assert expected
    assert identity(standby.port) == expected
    standby.promote()
    assert standby.rows("SELECT pg_is_in_recovery()") == [(False,)]
    assert identity(standby.port) == expected


async def test_a_standby_s_feed_nudges_what_its_own_snapshots_see(standby):
    primary = standby.primary
    feed = WalFeed(
        host=primary.host,
        port=standby.port,
        user=primary.user,
        database="app",
        publication="every",
    )
    async with following(feed, live=False) as seen:

        def is_live() -> bool:
            # A slot on a standby waits for the primary to log what is running.
            primary.execute("SELECT pg_log_standby_snapshot()", "app")
            return bool(seen.resyncs)

        await eventually(is_live)
        assert await run(standby.rows, "SELECT pg_is_in_recovery()") == [(True,)]
        for number in range(20):
            await run(primary.execute, f"INSERT INTO t VALUES ({number})", "app")
            await seen.until(lambda: (number,) in (seen.keys("public.t") or ()))
            assert (number,) in await run(standby.rows, "SELECT id FROM t")
        await feed.catch_up()
    assert seen.resyncs == ["connected"]
