"""Read your own write: wait until what was committed has reached the caches.

The question goes the way of every change: it is emitted into the log. The daemon answers it in the
cache when it has dealt with everything that came before.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from django.db import connections

from django_pgnudge import caches
from django_pgnudge.backoff import Backoff
from django_pgnudge.conf import conf
from django_pgnudge.decoding.nudges import SETTLE_PREFIX
from django_pgnudge.emitting import emit
from django_pgnudge.errors import SettleError
from django_pgnudge.reader.keys import Names
from django_pgnudge.reader.session import IDLE, status
from django_pgnudge.reader.state import reader_state

ASK_AGAIN: Final = 1.0
"""Seconds without an answer after which the question is sent again. The daemon may have been
reconnecting, or there may have been more questions than it keeps answers for."""


def settled(timeout: float = 5.0, *, using: str | None = None) -> bool:
    """Whether everything committed before the call has been dispatched; waits for it.

    Dispatched means: deleted from every cache and told to the receivers. False after ``timeout``
    seconds without an answer, for example if no daemon runs. Raises SettleError inside a
    transaction, since the question would wait for its end.
    """
    request, using, alias = secrets.token_hex(16), using or conf.DATABASE, conf.first_cache()
    connection = connections[using]
    if (
        connection.in_atomic_block
        or not connection.get_autocommit()
        or status(connection.connection) != IDLE
    ):
        raise SettleError(
            f"settled() inside a transaction of database {using!r} would wait for itself; "
            "call it after the commit, for instance in transaction.on_commit()"
        )
    values = caches.values(alias)
    asked = -ASK_AGAIN
    for pause in _pauses(timeout):
        if time.monotonic() - asked >= ASK_AGAIN:
            emit(SETTLE_PREFIX + request, using=using)
            asked = time.monotonic()
        identity = reader_state(using).tables.identity()
        answered = None
        if identity is not None:
            # A cache that is down has no answer: the daemon cannot have dealt with it either.
            with suppress(Exception):
                answered = values.get(Names.of(identity).settled)
        if isinstance(answered, list) and request in answered:
            return True
        time.sleep(pause)
    return False


async def asettled(timeout: float = 5.0, *, using: str | None = None) -> bool:  # noqa: ASYNC109
    """`settled`, for asynchronous code."""
    return await asyncio.to_thread(_settled_in_thread, timeout, using)


def _settled_in_thread(timeout: float, using: str | None) -> bool:
    try:
        return settled(timeout, using=using)
    finally:
        connections[using or conf.DATABASE].close()


def _pauses(timeout: float) -> Iterator[float]:
    """Pauses that grow from one to fifty milliseconds, until the time is over."""
    deadline = time.monotonic() + timeout
    pauses = Backoff(0.001, 0.05, factor=1.5, least=1.0)
    while (left := deadline - time.monotonic()) > 0:
        yield min(pauses.next_delay(), left)
