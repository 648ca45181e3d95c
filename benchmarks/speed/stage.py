"""What a benchmark of the daemon stands on: PostgreSQL, Redis, fifty tables, and `runnudge`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, Self

from servers.postgres import Postgres
from servers.process import LOOPBACK, ServerProcess
from servers.redis import Redis, find_redis

from benchmarks.local import child_environment, choose_installation, open_servers, start_runnudge
from benchmarks.speed.site.tables import CREATE

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["DATABASE", "PUBLICATION", "Stage", "add_arguments"]

DATABASE: Final = "speed"
PUBLICATION: Final = "speed"

BACKENDS: Final = {
    "django-redis": "django_redis.cache.RedisCache",
    "django": "django.core.cache.backends.redis.RedisCache",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Those of the daemon's site."""
    parser.add_argument(
        "--plugin", default="pgoutput", choices=["pgoutput", "wal2json", "test_decoding"],
        help="runnudge's output plugin",
    )  # fmt: skip
    parser.add_argument("--cache", default="django-redis", choices=list(BACKENDS))


class Stage:
    """The servers with the tables in them, and a folder for logs; a context manager.

    Nothing is durable: PostgreSQL has `fsync` off. What a disk takes to say that a COMMIT is safe
    would be the same for everybody.
    """

    def __init__(self, options: Namespace, *, redis: Mapping[str, object] | None = None) -> None:
        self.options = options
        self.installation = choose_installation(options.server)
        self.postgres = Postgres(self.installation)
        self.redis = Redis(find_redis(given=False), settings=redis)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = open_servers(stack, self.postgres, self.redis, DATABASE)
            self.postgres.execute(CREATE, DATABASE)
            self.postgres.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES", DATABASE)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(DATABASE)

    def place(self) -> dict[str, Any]:
        """Where the tables are, in the keywords of a feed and of the site's settings."""
        return {
            "host": LOOPBACK,
            "port": self.postgres.port,
            "user": self.postgres.user,
            "database": DATABASE,
        }

    def facts(self) -> dict[str, str]:
        """For a report."""
        plugin = self.options.plugin
        return {
            "PostgreSQL": f"{self.postgres.execute('SHOW server_version')[0][0]}, fsync off",
            "runnudge": f"{plugin}, visibility on, INFO to a file, {self.options.cache}",
        }

    @property
    def log(self) -> Path:
        """What runnudge logs."""
        return self.folder / "runnudge.log"

    @contextlib.contextmanager
    def runnudge(self) -> Iterator[ServerProcess]:
        """The daemon, from its start on."""
        process = start_runnudge(self._environment(), self.folder / "runnudge.out")
        try:
            yield process
        finally:
            process.end()

    def _environment(self) -> dict[str, str]:
        site: dict[str, Any] = {
            **self.place(),
            "redis": self.redis.url,
            "backend": BACKENDS[self.options.cache],
            "plugin": self.options.plugin,
            "publication": PUBLICATION if self.options.plugin == "pgoutput" else None,
            "log": str(self.log),
        }
        return child_environment(
            DJANGO_SETTINGS_MODULE="benchmarks.speed.site.settings", PGNUDGE_SPEED=json.dumps(site)
        )
