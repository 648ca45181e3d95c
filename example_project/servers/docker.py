"""PostgreSQL in a Docker container, by testcontainers; its reaper removes the container whatever
happens to us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import psycopg
from testcontainers.core.container import DockerContainer

from servers.base import DatabaseServer, Mode
from servers.postgres import NOT_DURABLE, SETTINGS, Installation
from servers.process import ServerFailedError, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping


class DockerPostgres(DatabaseServer):
    """As Postgres, over TCP only: there is no Unix socket, no pg_hba and no certificate to set.

    Where a container's data lie is the engine's choice: in_memory changes nothing.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        in_memory: bool = False,
    ) -> None:
        self.installation = installation
        self.port = port
        self.settings = dict(settings or {})
        self._container: Any = None

    def start(self) -> Self:
        if self._container is not None:
            return self
        self.port = self.port or free_port()
        values = SETTINGS | NOT_DURABLE | {key: str(value) for key, value in self.settings.items()}
        arguments = [part for key, value in values.items() for part in ("-c", f"{key}={value}")]
        container = (
            DockerContainer(str(self.installation.image))
            .with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
            # A fixed port: a restarted container would come back on another one.
            .with_bind_ports(5432, self.port)
            .with_command(["postgres", *arguments])
        )
        try:
            container.start()
        except Exception as error:
            raise ServerFailedError(
                f"Docker could not start {self.installation.image}: {error}"
            ) from error
        self._container = container
        self.host = container.get_container_host_ip()
        self._wait()
        return self

    def stop(self, mode: Mode = "fast") -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def restart(self, mode: Mode = "fast") -> None:
        self._wrapped.restart(timeout=0 if mode == "immediate" else 10)
        self._wait()

    def kill(self) -> None:
        self._wrapped.kill()

    @property
    def _wrapped(self) -> Any:
        if self._container is None:
            raise ServerFailedError(f"{self.installation} is not running.")
        return self._container.get_wrapped_container()

    def _wait(self) -> None:
        """The image first runs a server for its initialization, on the Unix socket only."""
        wait_until(
            self._answers, f"{self.installation} to take connections", timeout=120, interval=0.1
        )

    def _answers(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
