"""The signals, sent after the keys are deleted: the last hop.

``tables_changed`` fires once per batch with ``tables`` (frozenset of ``schema.table``), ``models``
(frozenset of model classes), ``batch`` and ``using``. ``model_changed`` fires once per model (and
tenant), with ``sender=Model``, ``event``, ``batch`` and ``using``. ``resynced`` fires when anything
may have changed, with ``reason`` and ``using``. Receivers are functions or coroutine functions.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections, connections, reset_queries
from django.dispatch import Signal

from django_pgnudge.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.models import Model

    from django_pgnudge.events import Batch, Event

__all__ = ["model_changed", "resynced", "tables_changed"]

logger = get_logger("django_pgnudge.signals")

tables_changed = Signal()
model_changed = Signal()
resynced = Signal()


def anyone_listens() -> bool:
    """Whether a receiver is connected that gets events and may read their keys."""
    return bool(tables_changed.receivers or model_changed.receivers)


def send_changes(batch: Batch, changes: Sequence[tuple[type[Model], Event]], using: str) -> None:
    """Tell receivers of a batch. Synchronous; Django logs a receiver that raises.

    Call it by ``sync_to_async``: then functions run in its thread, coroutine functions run on the
    calling loop, and all signals of a batch cost one change of thread.
    """
    with between_requests():
        _send(
            tables_changed,
            sender=None,
            tables=frozenset(batch.payloads()),
            models=frozenset(model for model, _ in changes),
            batch=batch,
            using=using,
        )
        for model, event in changes:
            _send(model_changed, sender=model, event=event, batch=batch, using=using)


def send_resynced(reason: str, using: str) -> None:
    """Tell receivers that anything may have changed; called like ``send_changes``."""
    with between_requests():
        _send(resynced, sender=None, reason=reason, using=using)


def _send(signal: Signal, **given: Any) -> None:
    try:
        answers = signal.send_robust(**given)
    except (Exception, SystemExit, KeyboardInterrupt):
        # send_robust passes on exits, and errors of its own logging. Neither may end the daemon.
        logger.exception("Calling the receivers stopped early; the rest were not called.")
        return
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            # Django logged the traceback, but a site with DEBUG off may show it nowhere.
            name = getattr(receiver, "__qualname__", receiver)
            logger.error(
                "Receiver %s raised %s: %s (traceback: logger django.dispatch).",
                name, type(answer).__name__, answer,
            )  # fmt: skip


@contextmanager
def between_requests() -> Iterator[None]:
    """Clean up this thread's database connections as Django does around a request.

    User code may leave a broken connection or an open transaction. With DEBUG the query log of a
    process that runs for long would grow without bound.
    """
    reset_queries()
    close_old_connections()
    before = connections.all(initialized_only=True)
    in_tests = [connection.alias for connection in before if connection.in_atomic_block]
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block and connection.alias not in in_tests:
                # Django does not close a connection while it is marked as inside an atomic block.
                connection.in_atomic_block = False
                connection.close()
        reset_queries()
        close_old_connections()
