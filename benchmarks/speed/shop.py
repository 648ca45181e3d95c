"""The example shop on servers of its own, for benchmarks that need a whole site."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Final, Self

from servers.postgres import Postgres
from servers.process import LOOPBACK, ServerProcess, run
from servers.redis import Redis, find_redis

from benchmarks.local import (
    child_environment,
    choose_installation,
    open_servers,
    start_runnudge,
)

DATABASE: Final = "shop"
PRODUCTS: Final = 50


class Shop:
    """PostgreSQL and Redis with the shop's tables and some products, and processes of the site."""

    def __init__(self, server: str | None) -> None:
        self.postgres = Postgres(choose_installation(server))
        self.redis = Redis(find_redis(given=False))
        self.folder = Path()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = open_servers(stack, self.postgres, self.redis, DATABASE)
            run([sys.executable, "-m", "django", "migrate", "-v0"], env=self.environment())
            self.postgres.execute(
                "INSERT INTO shop_product (name, price, stock)"
                f" SELECT 'Product ' || n, n * 1.5, n FROM generate_series(1, {PRODUCTS}) n",
                DATABASE,
            )
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def facts(self) -> dict[str, str]:
        """Versions, for a report."""
        return {
            "PostgreSQL": str(self.postgres.installation),
            "Redis": self.redis.program.version,
        }

    def environment(self, settings: str = "shop_site.settings", **site: Any) -> dict[str, str]:
        """For a process of the site; ``site`` is what ``shop_settings`` reads."""
        return child_environment(
            DJANGO_SETTINGS_MODULE=settings,
            PGNUDGE_SPEED=json.dumps(site),
            PGHOST=LOOPBACK,
            PGPORT=str(self.postgres.port),
            PGUSER=self.postgres.user,
            PGDATABASE=DATABASE,
            REDIS_URL=self.redis.url,
            SHOP_DEBUG="0",
        )

    def runnudge(self, environment: dict[str, str]) -> ServerProcess:
        """The daemon; its log is `runnudge.log` in the folder."""
        return start_runnudge(environment, self.folder / "runnudge.log")
