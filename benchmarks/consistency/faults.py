"""What goes wrong: each fault is begun, lasts, and is put right; which and when says the seed.

Two may overlap if they strike different things, since what a stalled link holds back and a killed
daemon has forgotten is the stuff of bugs.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from servers.process import LOOPBACK, ServerFailedError
from servers.proxy import Direction, Proxy

from benchmarks.consistency.stack import Stack

Break: TypeAlias = Callable[[Stack, random.Random], "contextlib.AbstractContextManager[None]"]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    strikes: str
    enter: Break


FAULTS: Final[list[Fault]] = []


def _fault(
    strikes: str, name: str
) -> Callable[[Callable[[Stack, random.Random], Iterator[None]]], None]:
    def register(function: Callable[[Stack, random.Random], Iterator[None]]) -> None:
        FAULTS.append(Fault(name, strikes, contextlib.contextmanager(function)))

    return register


@_fault("daemon", "kill -9 of the daemon")
def _kill_daemon(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.kill_daemon()
    try:
        yield
    finally:
        stack.start_daemon()


@_fault("daemon", "SIGSTOP of the daemon")
def _stop_daemon(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.signal_daemon(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.signal_daemon(signal.SIGCONT)


@_fault("daemon", "a slow receiver")
def _slow_receiver(stack: Stack, rng: random.Random) -> Iterator[None]:
    stack.slowness.write_text(str(rng.uniform(0.2, 3.0)))
    try:
        yield
    finally:
        stack.slowness.unlink(missing_ok=True)


@_fault("postgres", "pg_terminate_backend of the daemon's backends")
def _terminate(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'django_pgnudge%'"
    )
    yield


@_fault("postgres", "pg_terminate_backend of the walsender")
def _terminate_walsender(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    yield


@_fault("postgres", "immediate restart of PostgreSQL")
def _crash_postgres(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.postgres.restart("immediate")
    yield


@_fault("redis", "Redis killed, back empty")
def _redis_empty(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.redis.kill()
    try:
        yield
    finally:
        (stack.redis.directory / "dump.rdb").unlink(missing_ok=True)
        stack.redis.start()


@_fault("redis", "Redis killed, back with its memory")
def _redis_full(stack: Stack, _: random.Random) -> Iterator[None]:
    stack.redis.save()
    stack.redis.kill()
    try:
        yield
    finally:
        stack.redis.start()


@_fault("redis", "Redis killed, back with an older memory")
def _redis_older(stack: Stack, rng: random.Random) -> Iterator[None]:
    """As a failover to a replica that lagged: deletes are forgotten."""
    _kill_after_save(stack, rng)
    try:
        yield
    finally:
        stack.redis.start()


@_fault("redis", "Redis killed, at once back with an older memory")
def _redis_older_at_once(stack: Stack, rng: random.Random) -> Iterator[None]:
    """So fast that a client that tries again need not have noticed."""
    _kill_after_save(stack, rng)
    stack.redis.start()
    yield


def _kill_after_save(stack: Stack, rng: random.Random) -> None:
    stack.redis.save()
    time.sleep(rng.uniform(0.1, 1.5 * stack.options.lease))
    stack.redis.kill()


def _link_fault(strikes: str, link: Callable[[Stack], Proxy]) -> None:
    words = strikes.removeprefix("link to ")

    @_fault(strikes, f"cut of the link to {words}")
    def _cut(stack: Stack, _: random.Random) -> Iterator[None]:
        link(stack).cut()
        yield

    @_fault(strikes, f"refused connections to {words}")
    def _refuse(stack: Stack, _: random.Random) -> Iterator[None]:
        link(stack).refuse()
        link(stack).cut()
        try:
            yield
        finally:
            link(stack).listen()

    @_fault(strikes, f"a stalled link to {words}")
    def _stall(stack: Stack, rng: random.Random) -> Iterator[None]:
        ways: list[Any] = [(), ("to_server",), ("to_client",)]
        link(stack).stall(*rng.choice(ways))
        try:
            yield
        finally:
            link(stack).resume()

    @_fault(strikes, f"a half-open link to {words}")
    def _half_open(stack: Stack, rng: random.Random) -> Iterator[None]:
        link(stack).half_open()
        link(stack).cut()
        try:
            yield
        finally:
            link(stack).half_open(False)
            # A middlebox that has forgotten a connection answers a later packet with a reset,
            # or with nothing; then the client's own timeout must end it.
            if rng.random() < 0.5:
                link(stack).cut()


@_fault("redis", "a replica that lagged is promoted")
def _fail_over(stack: Stack, rng: random.Random) -> Iterator[None]:
    assert stack.pair is not None
    stack.pair.fail_over(rng.uniform(0, 1.5 * stack.options.lease))
    yield


@_fault("link of the site", "late requests of the site to the replicated Redis")
def _late_requests(stack: Stack, rng: random.Random) -> Iterator[None]:
    stack.site_link.delay = rng.uniform(0.05, stack.options.lease / 2)
    try:
        yield
    finally:
        stack.site_link.delay = 0.0


@_fault("link to Redis", "requests of the daemon that arrive twice, the second late")
def _doubled(stack: Stack, rng: random.Random) -> Iterator[None]:
    def double(direction: Direction, data: bytes) -> bytes:
        if direction == "to_server" and data.startswith(b"*"):
            late = rng.uniform(0.1, 2 * stack.options.lease)
            timer = threading.Timer(late, _send_again, (stack.redis.port, data))
            timer.daemon = True
            timer.start()
        return data

    stack.redis_link.hook = double
    try:
        yield
    finally:
        stack.redis_link.hook = None


def _send_again(port: int, data: bytes) -> None:
    """To each of the caches, whichever it was for."""
    for database in (b"0", b"1", b"2"):
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 2) as link:
            link.sendall(b"*2\r\n$6\r\nSELECT\r\n$1\r\n" + database + b"\r\n" + data)
            link.settimeout(0.5)
            link.recv(1 << 16)


_link_fault("link to PostgreSQL", lambda stack: stack.postgres_link)
_link_fault("link to Redis", lambda stack: stack.redis_link)


class Faults(threading.Thread):
    """Breaks and mends until told to stop, and keeps a log. Never leaves anything broken."""

    def __init__(self, stack: Stack, seed: int, began: float) -> None:
        super().__init__(name="faults", daemon=True)
        self.log: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._stack = stack
        self._faults = [
            each for each in FAULTS
            if stack.options.only in each.name and (stack.pair or "replica" not in each.name)
        ]  # fmt: skip
        if not self._faults:
            raise ServerFailedError(f"No fault has {stack.options.only!r} in its name.")
        self._rng = random.Random(f"{seed}:faults")
        self._began = began
        self._ending = threading.Event()

    def stop(self) -> None:
        """Mend what is broken and return."""
        self._ending.set()
        self.join(120)

    def run(self) -> None:
        lease = self._stack.options.lease
        waiting: list[Fault] = []
        try:
            while not self._ending.wait(self._rng.uniform(0.2, 1.5 * lease)):
                if not waiting:
                    # Every fault has its turn before any comes again.
                    waiting = list(self._faults)
                    self._rng.shuffle(waiting)
                first = waiting.pop()
                others = [each for each in self._faults if each.strikes != first.strikes]
                second = None
                if others and self._rng.random() < 0.35:
                    second = self._rng.choice(others)
                self._strike(first, second)
        except BaseException as failure:
            self.failure = failure
            raise

    def _strike(self, first: Fault, second: Fault | None) -> None:
        lease = self._stack.options.lease
        with self._noted(first):
            self._ending.wait(self._rng.uniform(0.1, 2 * lease))
            if second is not None and not self._ending.is_set():
                with self._noted(second):
                    self._ending.wait(self._rng.uniform(0.1, 2 * lease))

    @contextlib.contextmanager
    def _noted(self, fault: Fault) -> Iterator[None]:
        at = time.monotonic() - self._began
        entry = {"at": round(at, 2), "fault": fault.name}
        self.log.append(entry)
        self._stack.say(f"fault: {fault.name}")
        with fault.enter(self._stack, self._rng):
            yield
        entry["seconds"] = round(time.monotonic() - self._began - at, 2)
