"""What every running PostgreSQL offers, wherever it runs: where it is, connections, databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import psycopg

from servers.process import LOOPBACK, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from servers.installations import Installation

Mode = Literal["smart", "fast", "immediate"]


class DatabaseServer:
    """What a running PostgreSQL offers, wherever it runs."""

    installation: Installation
    host: str = LOOPBACK
    port: int = 0
    user: str = "postgres"
    password: str | None = None
    socket_dir: Path | None = None

    @property
    def name(self) -> str:
        return self.installation.name

    @property
    def plugins(self) -> tuple[str, ...]:
        return self.installation.plugins

    def dsn(self, database: str = "postgres", **options: object) -> str:
        """A libpq connection string over TCP; options are further keywords, or others in place of
        ours.
        """
        values: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": database,
        } | options
        return " ".join(
            f"{key}='{_quoted(value)}'" for key, value in values.items() if value is not None
        )

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """An autocommit psycopg connection as superuser, over the Unix socket if there is one."""
        place = {"host": str(self.socket_dir), "password": None} if self.socket_dir else {}
        return psycopg.connect(self.dsn(database, **(place | options)), autocommit=True)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement on a connection of its own; its rows, if it has any."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def has_database(self, name: str) -> bool:
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    def create_database(self, name: str, *, template: str | None = None) -> None:
        sql = f"CREATE DATABASE {_identifier(name)}"
        if template:
            sql += f" TEMPLATE {_identifier(template)}"
        if self.installation.version[0] >= 15:
            # The default since then puts each page into the log, which takes twice as long.
            sql += " STRATEGY FILE_COPY"
        self.execute(sql)

    def drop_database(self, name: str) -> None:
        """Drop it whoever is connected.

        FORCE alone stops at a database with an active replication slot.
        """
        with self.connect() as connection:

            def no_slot_is_active() -> bool:
                connection.execute(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                    " WHERE database = %s AND active_pid IS NOT NULL",
                    [name],
                )
                row = connection.execute(
                    "SELECT count(*) FROM pg_replication_slots WHERE database = %s AND active",
                    [name],
                ).fetchone()
                return row == (0,)

            wait_until(
                no_slot_is_active, f"the replication slots of database {name} to be released"
            )
            connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)".encode())

    def start(self) -> Self:
        raise NotImplementedError

    def stop(self, mode: Mode = "fast") -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _quoted(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "\\'")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
