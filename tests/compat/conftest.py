"""One database, one worker and one `runnudge` for each file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.process import ServerFailedError, wait_until

from tests import ROOT
from tests.fix_servers import COMPAT, fresh_name, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.postgres import DatabaseServer
    from servers.redis import Redis


class Site:
    """A project with its database; steps run in its worker."""

    def __init__(
        self, project: str, postgres: DatabaseServer, database: str, redis: Redis, logs: Path
    ) -> None:
        self.postgres = postgres
        self.database = database
        self.redis = redis
        self._logs = logs
        self.package = package = project if "." in project else f"tests.compat.{project}"
        where = {
            "HOST": postgres.host, "PORT": str(postgres.port), "USER": postgres.user,
            "PASSWORD": postgres.password or "", "NAME": database,
        }  # fmt: skip
        self._environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": f"{package}.settings",
            "PGNUDGE_COMPAT": json.dumps({"database": where, "redis": redis.url}),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }
        self._started: list[subprocess.Popen[str]] = []
        self._worker = self._start("worker", "-m", "tests.compat.worker", package)

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        with (self._logs / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._started.append(process)
        return process

    def follow(self) -> None:
        """Start `runnudge`, and return when it streams."""
        self._daemon = self._start("runnudge", "-m", "django", "runnudge")
        self.wait_for("Resync (connected)")
        # The line comes before what it clears is gone.
        assert self.step("settled", 30)

    def wait_for(self, words: str) -> None:
        """Return when `runnudge` has said so."""

        def there() -> bool:
            assert self._daemon.poll() is None, self.said("runnudge")
            return words in self.said("runnudge")

        try:
            wait_until(there, repr(words), timeout=30)
        except ServerFailedError as error:
            pytest.fail(f"{error}\n{self.said('runnudge')}")

    def said(self, name: str) -> str:
        """The lines of a process so far."""
        return (self._logs / f"{name}.log").read_text(encoding="utf-8")

    def step(self, name: str, *arguments: Any) -> Any:
        """Run a step of the project; fails with the worker's own traceback."""
        assert self._worker.stdin
        assert self._worker.stdout
        self._worker.stdin.write(json.dumps({"step": name, "arguments": arguments}) + "\n")
        self._worker.stdin.flush()
        line = self._worker.stdout.readline()
        assert line, f"the worker has ended\n{self.said('worker')}"
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            pytest.fail(f"step {name}{arguments}: {answer['error']}\n{self.said('worker')[-2000:]}")
        return answer["answer"]

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Each statement in a transaction of its own, past Django; the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.postgres.connect(self.database) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def forget_the_past(self) -> None:
        """Return when no rule fires any more for what was committed before.

        A table that was truncated is told once more by the next proof, which finds it stored
        anew. The second proof from here on began after all that was committed before.
        """

        def newer() -> bool:
            return self.step("proven", "default") not in (None, proven)

        for _ in range(2):
            proven = self.step("proven", "default")
            wait_until(newer, "a proof", timeout=30)
        assert self.step("settled", 10)

    def check(self) -> list[str]:
        """The addresses of the pages: each is right, and is served from the cache again."""
        paths: list[str] = self.step("paths")
        assert self.step("stale", paths) == []
        assert self.step("warm", paths) == [], self.said("worker")[-3000:]
        return paths

    def end(self) -> None:
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@contextlib.contextmanager
def made_site(request: pytest.FixtureRequest, project: str, logs: Path) -> Iterator[Site]:
    """A project on a database of its own, built and followed."""
    postgres: DatabaseServer = request.getfixturevalue("any_postgres")
    redis: Redis = request.getfixturevalue("_session_redis")
    redis.start()
    redis.command("FLUSHALL")
    name = fresh_name("compat")
    postgres.create_database(name)
    made = Site(project, postgres, name, redis, logs)
    try:
        made.step("build")
        made.follow()
        yield made
    finally:
        made.end()
        postgres.drop_database(name)


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The module's PROJECT; it needs its PACKAGES."""
    lacking = [name for name in request.module.PACKAGES if find_spec(COMPAT[name]) is None]
    if lacking:
        pytest.skip(f"{missing('compat')} ({', '.join(lacking)})")
    project: str = request.module.PROJECT
    with made_site(request, project, tmp_path_factory.mktemp(project)) as made:
        yield made
