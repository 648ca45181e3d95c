"""WalFeed: an asynchronous iterator over what changes in a PostgreSQL database.

It connects, streams and reconnects. Its consumer gets a `Resync` for every possible gap and a
`Batch` for what was committed; see `django_pgnudge.events`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import ssl as ssl_module
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from ..backoff import Backoff
from ..decoding import TableFilter
from ..errors import ConfigError, ConnectionLostError, PgNudgeError
from ..events import FeedItem
from ..log import get_logger
from ..wire import AcceptedMethods
from .address import Address
from .closing import to_the_end
from .coalescer import Coalescer
from .idle_limit import IdleLimit
from .mailbox import Mailbox
from .stream import Stream
from .stream_settings import StreamSettings, plugins_for
from .survey import Survey, look
from .tls import TLS

log = get_logger("django_pgnudge.feed")

_DEFAULT_BATCH_WAIT = 0.05
"""Seconds after which a transaction still arriving nudges its tables, unless said otherwise."""


class WalFeed:
    """Changes of one database, from the moment of connecting on.

    An asynchronous context manager and iterator::

        async with WalFeed(host="db", user="nudge", database="app") as feed:
            async for item in feed:
                match item:
                    case Resync(): ...
                    case Batch(): ...

    Connection: ``host`` is a name, an address or a Unix socket directory; ``ssl`` is False, True
    (verify against the platform's authorities), an ``ssl.SSLContext`` or a `TLS`. ``require_auth``
    names the accepted authentication methods, as libpq has it (None: any).

    What is streamed: ``tables`` are ``schema.table`` names, ``*`` standing for either part;
    ``plugin`` is ``pgoutput`` (with ``publication``), ``wal2json``, ``test_decoding``, or
    ``auto`` for the first of these that the server has. ``keys`` says for which payloads primary
    keys are collected (True: all), ``max_keys`` how many a table in one batch before its event
    has ``keys=None``.

    How it is delivered, times in seconds: after a batch the next one waits ``debounce``; a
    transaction still arriving after ``max_batch_wait`` (default 0.05) nudges its tables early;
    every ``failsafe`` a ``Resync("failsafe")`` comes; past ``raw_queue_size`` distinct tables
    pending a ``Resync("overflow")`` does. With ``visibility`` a change is delivered only once a
    new snapshot sees it, which takes a second connection.

    How it survives: a status is sent every ``status_interval`` (keep it under the server's
    ``wal_sender_timeout``); a server silent for ``liveness_timeout`` (None: any time) is taken
    for lost, as is one that does not answer within ``connect_timeout``; attempts to reconnect
    are ``backoff`` = (initial, maximum) apart. The consumer gets no failures but bugs, and those
    failures to connect for which ``give_up`` returns True. ``locate`` is awaited before every
    attempt but the first, for the connection keywords to use from then on: after a failover the
    server may be somewhere else, or a password may have been replaced.

    Raises ConfigError for invalid arguments.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 5432,
        user: str,
        database: str,
        password: str | None = None,
        ssl: bool | ssl_module.SSLContext | TLS = False,
        require_auth: str | None = None,
        tables: Sequence[str] | None = None,
        plugin: str = "auto",
        publication: str | None = None,
        visibility: bool = True,
        application_name: str = "django_pgnudge",
        status_interval: float = 10.0,
        liveness_timeout: float | None = 30.0,
        connect_timeout: float = 10.0,
        debounce: float = 0.0,
        max_batch_wait: float | None = None,
        failsafe: float | None = None,
        backoff: tuple[float, float] = (0.1, 5.0),
        raw_queue_size: int = 8192,
        keys: bool | Collection[str] = True,
        max_keys: int = 1000,
        give_up: Callable[[Exception], bool] | None = None,
        locate: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        _require(status_interval > 0, "status_interval must be positive")
        _require(
            liveness_timeout is None or liveness_timeout > status_interval,
            "liveness_timeout must exceed status_interval",
        )
        _require(connect_timeout > 0, "connect_timeout must be positive")
        _require(debounce >= 0, "debounce must not be negative")
        _require(
            max_batch_wait is None or max_batch_wait >= 0, "max_batch_wait must not be negative"
        )
        _require(failsafe is None or failsafe > 0, "failsafe must be positive, or None for never")
        _require(
            len(backoff) == 2 and 0 < backoff[0] <= backoff[1],
            "backoff must be (initial, maximum) with 0 < initial <= maximum",
        )
        _require(raw_queue_size >= 1, "raw_queue_size must be at least 1")
        _require(max_keys >= 0, "max_keys must not be negative")
        _require(not isinstance(tables, str), "tables must be a list of names, not one string")
        _require(tables is None or len(tables) > 0, "tables must be None or name at least one")
        _require(not isinstance(keys, str), "keys must be a bool or a collection of payloads")
        TableFilter(tables)
        address = Address(
            host, port, user, database, password, TLS.of(ssl), AcceptedMethods.of(require_auth),
            application_name, status_interval,
        )  # fmt: skip
        self._settings = StreamSettings(
            address=address,
            plugins=plugins_for(plugin, publication),
            publication=publication,
            tables=None if tables is None else tuple(tables),
            keys=keys if isinstance(keys, bool) else frozenset(keys),
            max_keys=max_keys,
            visibility=visibility,
            status_interval=status_interval,
            liveness_timeout=liveness_timeout,
            connect_timeout=connect_timeout,
            max_batch_wait=_DEFAULT_BATCH_WAIT if max_batch_wait is None else max_batch_wait,
        )
        self._failsafe = failsafe
        self._backoff = Backoff(*backoff)
        self._idle = IdleLimit()
        self._give_up = give_up
        self._locate = locate
        self._coalescer = Coalescer(max_tables=raw_queue_size, max_keys=max_keys)
        self._mailbox = Mailbox(self._coalescer, debounce)
        self._tasks: list[asyncio.Task[None]] = []
        self._connected_before = False
        self._stream: Stream | None = None
        self._unfinished: dict[str, int] = {}
        self.slot_name: str | None = None
        """The temporary slot's name while the stream is live."""
        self.connection_pid: int | None = None
        """The walsender's process id on the server while the stream is live."""
        self.plugin_in_use: str | None = None
        self.server_version = 0
        """As ``server_version_num``, 0 before the first connect."""
        self.last_error: Exception | None = None
        """Why the feed is not connected; None while it is."""

    # For the daemon's proof.

    async def catch_up(self) -> None:
        """Return once the consumer has dealt with every change visible before the call.

        A consumer has dealt with an item when it takes the next one. Raises
        ConnectionLostError if the feed is not live or its stream ends first, and ConfigError
        without ``visibility``, which is needed to tell.
        """
        if not self._settings.visibility:
            raise ConfigError("catch_up() needs a feed with visibility=True")
        stream = self._live_stream()
        await stream.release_visible()
        if not await self._mailbox.dealt_with(lambda: self._stream is stream):
            raise ConnectionLostError("the stream ended before its consumer caught up")

    async def covered(self) -> frozenset[str]:
        """The payloads of the tables whose every change the live stream carries."""
        return await self._live_stream().covered()

    async def survey(self) -> Survey:
        """Look at the server over a new connection, where ``locate`` says it is.

        Raises a PgNudgeError if it cannot connect. If the connection leads to another server than
        the stream's, the stream ends and OtherServerError is raised.
        """
        stream = self._live_stream()
        address = await self._address()
        return await look(stream, address, self._settings.connect_timeout)

    async def relearn(self, survey: Survey) -> None:
        """Read keys as the map of ``survey`` has them, after all that came before it.

        Raises ConnectionLostError if the survey is of a stream that has ended.
        """
        if self._settings.visibility:
            await self.catch_up()
        self._same_stream(survey)
        await survey.stream.learn_keys(survey.moved.payloads)

    def accept(self, survey: Survey) -> None:
        """Let later surveys say what has moved since this one; raises as `relearn` does."""
        self._same_stream(survey)
        survey.stream.map = survey.map
        survey.stream.coverage = survey.covered if survey.steady else None

    def restart(self, *, tables: Sequence[str] | None) -> None:
        """End the stream. The next one follows these tables (None: all) instead."""
        tables = None if tables is None else tuple(tables)
        self._settings = dataclasses.replace(self._settings, tables=tables)
        if self._stream is not None:
            self._stream.abort(ConnectionLostError("other tables are to be followed"))

    def _same_stream(self, survey: Survey) -> None:
        if self._live_stream() is not survey.stream:
            raise ConnectionLostError("the stream ended meanwhile")

    def _live_stream(self) -> Stream:
        if self._stream is None:
            raise ConnectionLostError(f"the feed is not live: {self.last_error}")
        return self._stream

    # The consumer's side.

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        self._start()
        return self

    async def __anext__(self) -> FeedItem:
        return await self._mailbox.take()

    async def aclose(self) -> None:
        """Close the connections and end the iteration; when it returns the slot is gone."""
        self._mailbox.closed = True
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            # Whoever waits for an item must not wait for ever because this call was cancelled.
            self._mailbox.wake()

    # Inside.

    def _start(self) -> None:
        if self._tasks or self._mailbox.closed:
            return
        self._tasks.append(asyncio.create_task(self._supervise(), name="pgnudge-feed"))
        if self._failsafe is not None:
            self._tasks.append(
                asyncio.create_task(self._emit_failsafe(self._failsafe), name="pgnudge-failsafe")
            )
        for task in self._tasks:
            task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None or not self._mailbox.fail(error):
            return
        if not isinstance(error, PgNudgeError):
            log.error("the feed failed", exc_info=error)

    async def _emit_failsafe(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            if self._stream is not None:
                self._mailbox.resync("failsafe")

    async def _supervise(self) -> None:
        located = True
        while True:
            if located:
                await self._attempt()
            await asyncio.sleep(self._backoff.next_delay())
            located = await self._located()

    async def _attempt(self) -> None:
        stream = Stream(
            self._settings, self._coalescer,
            wake=self._mailbox.wake, resync=self._mailbox.resync, unfinished=self._unfinished,
        )  # fmt: skip
        try:
            await self._live(stream)
        finally:
            self._stream = None
            self._mailbox.check_again()
            self.slot_name = self.connection_pid = None
            # A feed that is being closed closes what this attempt opened, too.
            await to_the_end(stream.aclose)
            self._coalescer.reset()

    async def _located(self) -> bool:
        """Whether it is known where the server is, after asking ``locate`` if there is one."""
        try:
            address = await self._address()
        except PgNudgeError as error:
            self._on_connect_failure(error)
            return False
        if str(address) != str(self._settings.address):
            log.info("the server is at %s", address)
        self._settings = dataclasses.replace(self._settings, address=address)
        return True

    async def _address(self) -> Address:
        if self._locate is None:
            return self._settings.address
        return self._settings.address.moved(**await self._locate())

    async def _live(self, stream: Stream) -> None:
        """One attempt: connect, stream, and come back when it has ended."""
        try:
            await stream.open()
        except PgNudgeError as error:
            self._on_connect_failure(error)
            return
        session, slot = stream.connection.session, stream.slot
        self.slot_name = slot.name
        self.connection_pid = session.backend_pid
        self.server_version = session.server_version
        self.plugin_in_use = slot.plugin
        self.last_error = None
        log.debug(
            "streaming from %s with %s (slot %s)",
            self._settings.address,
            slot.plugin,
            slot.name,
        )
        self._mailbox.resync("reconnected" if self._connected_before else "connected")
        self._connected_before = True
        self._stream = stream
        began = time.monotonic()
        self.last_error = await stream.run()
        ended = time.monotonic()
        self._backoff.lasted(ended - began)
        log.warning("the stream ended, reconnecting: %s", self.last_error)
        if isinstance(self.last_error, ConnectionLostError):
            self._speak_up(ended - stream.connection.last_inbound)

    def _speak_up(self, silent: float) -> None:
        """Report more often if something in between ends silent connections."""
        interval = self._idle.ended(silent, self._settings.status_interval)
        if interval is not None:
            log.warning(
                "something between this process and %s hangs up after %.1f s in which nothing was"
                " said, and status_interval is %g s: it is %.1f s from now on. A longer idle"
                " timeout there saves these messages.",
                self._settings.address, silent, self._settings.status_interval, interval,
            )  # fmt: skip
            self._settings = dataclasses.replace(self._settings, status_interval=interval)

    def _on_connect_failure(self, error: PgNudgeError) -> None:
        self.last_error = error
        if isinstance(error, ConfigError) or (self._give_up is not None and self._give_up(error)):
            raise error
        attempts = self._backoff.attempts + 1
        # The first attempts, then some of them.
        level = logging.WARNING if attempts in (1, 2, 5) or attempts % 20 == 0 else logging.DEBUG
        log.log(level, "cannot connect (attempt %d): %s", attempts, error)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
