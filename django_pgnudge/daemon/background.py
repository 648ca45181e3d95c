"""A daemon in a thread of this process: for tests, and for a site that has only one process."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

from django_pgnudge.daemon.core import Daemon
from django_pgnudge.errors import PgNudgeError


class BackgroundDaemon:
    """A context manager: inside it the daemon is live and has tried to get its leases.

    Takes the arguments of `Daemon`. A daemon that cannot start raises on entry, one that fails
    later on exit.
    """

    def __init__(self, using: str | None = None, *, patience: float = 30.0, **options: Any) -> None:
        self.daemon = Daemon(using, **options)
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pgnudge daemon", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(self._patience) or self._error is not None:
            self.stop()
            raise self._error or PgNudgeError(
                f"the daemon was not live within {self._patience} s; its log says why"
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if exc is None and self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop as SIGTERM stops ``runnudge``, and wait for it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.daemon.stop)
        self._thread.join(self._patience)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._loop = None
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        running = asyncio.create_task(self.daemon.run())
        watching = asyncio.create_task(self._watch())
        try:
            await running
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        await self.daemon.live.wait()
        for keeper in self.daemon.keepers.values():
            await keeper.tried.wait()
        self._ready.set()
