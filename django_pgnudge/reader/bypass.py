"""When a session must not use the cache, because it sees other data than everybody else.

A transaction that has written sees its own changes, which may be rolled back. One in REPEATABLE
READ or SERIALIZABLE sees a snapshot that may be older than the tokens. A session with another
search_path, or with a temporary table of the same name, sees other tables. A standby lags behind.
The driver knows whether a transaction is open. PostgreSQL is asked in case of doubt, and before a
value is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections

from django_pgnudge.log import get_logger, may_log
from django_pgnudge.reader.query_watch import Seen, is_doubtful, trust, unwatched
from django_pgnudge.reader.read_transaction import is_reading, pause_reading
from django_pgnudge.reader.scope import Scope
from django_pgnudge.reader.session import (
    IDLE,
    INTRANS,
    SessionView,
    reported_path,
    session_view,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_pgnudge.caches import ValueStore
    from django_pgnudge.reader.dependencies import DependencyResolver

logger = get_logger("django_pgnudge.nudged")


class SessionBypass:
    """The sessions of one database alias: whether they see what everybody in a scope sees."""

    def __init__(self, using: str, resolver: Callable[[Scope], DependencyResolver]) -> None:
        self._using = using
        self._resolver = resolver
        self._are_distrusted = False
        """Whether one of them had another search_path than expected, set by something unseen.

        From then on each session is asked each time.
        """

    def may_use_cache(self, scope: Scope) -> bool:
        """Whether this thread's session sees what everybody in the scope sees.

        To be asked before a value is served and before tokens are taken. PostgreSQL is not asked
        where no transaction is open: what a transaction that Django has announced will see, it
        will see later than any token taken before.
        """
        connection = connections[self._using]
        raw = connection.connection
        if raw is None or connection.vendor != "postgresql":
            return not connection.in_atomic_block
        state = IDLE if is_reading(connection) else status(raw)
        if state == IDLE:
            if not is_doubtful(connection, asked_each_time=self._are_distrusted):
                return True
        elif state != INTRANS:
            return False
        with unwatched():
            view = session_view(connection)
            if view is None or not self._sees_all(connection, view, scope):
                return False
        if state == IDLE:
            trust(connection)
        return True

    def may_keep(self, seen: Seen, what: str) -> bool:
        """Whether what was computed is what everybody in the scope would have computed.

        To be asked after the computation and before the value is kept, in the thread of its
        connection.
        """
        if not was_seen_well(seen, what):
            return False
        connection = connections[seen.using]
        raw = connection.connection
        if connection.vendor != "postgresql" or (raw is None and not seen.queried):
            return not connection.in_atomic_block
        state = IDLE if raw is None else status(raw)
        if state == IDLE and (seen.wrote or (seen.entered and seen.atomic)):
            if may_log(f"wrote {what}"):
                logger.warning(
                    "nudged: %s wrote in a transaction that ended before it returned. What it read"
                    " may have been rolled back, so it is not cached.",
                    what,
                )
            return False
        if state not in (IDLE, INTRANS):
            return False
        with unwatched():
            # What is observed was asked for it, at its end.
            observation = seen.observation
            view = None if observation is None or state != IDLE else observation.view
            if view is None:
                view = session_view(connection)
            if view is None or not self._sees_all(connection, view, seen.scope):
                return False
        if state == IDLE:
            trust(connection)
        if view.in_recovery and may_log(f"standby {what}"):
            logger.warning(
                "nudged: the connection of the database %r leads to a standby, which may lag"
                " behind, so %s is not cached. Let it lead to the primary"
                " (target_session_attrs=read-write).",
                seen.using,
                what,
            )
        return not view.in_recovery

    def _sees_all(self, connection: BaseDatabaseWrapper, view: SessionView, scope: Scope) -> bool:
        """Whether a session sees what everybody in the scope sees."""
        using = self._using
        if view.shadows and may_log(f"shadows {using} {view.shadows}"):
            logger.warning(
                "nudged: a session of the database %r has temporary tables that hide others (%s),"
                " so what it reads is computed and not cached.",
                using,
                ", ".join(view.shadows),
            )
        expected = self._resolver(scope)
        if expected.are_found_by(view.path):
            return view.is_common()
        if reported_path(connection.connection) is None:
            self._are_distrusted = True  # there may be changes that nothing tells of
        if may_log(f"path {using} {scope} {view.path}"):
            logger.warning(
                "nudged: a connection of the database %r has the search_path %s where %s is"
                " expected, so its values are computed and not cached. Say by"
                ' PGNUDGE["NUDGED"]["SCOPE"] which schemas a value is read in.',
                using,
                _written(view.path),
                _written(expected.path),
            )
        return False


def was_seen_well(seen: Seen, what: str) -> bool:
    """Whether all that was seen is covered by the value's tokens; logs what is not."""
    reason = seen.reason()
    if reason is not None and may_log(f"seen {what}"):
        logger.warning("nudged: %s is called each time: %s.", what, reason)
    return reason is None


def in_cache_transaction(values: ValueStore) -> bool:
    """Whether what is written to this cache waits for the caller's transaction.

    The daemon cannot see, and so not delete, a token that was made in a table inside a transaction.
    It would appear, with the entry, after the change that should have ended both.
    """
    connection = values.connection
    if connection is None:
        return False
    pause_reading(connection)
    raw = connection.connection
    if raw is None or connection.vendor != "postgresql":
        return connection.in_atomic_block or (raw is not None and not connection.autocommit)
    return connection.in_atomic_block or not raw.autocommit or status(raw) != IDLE


def _written(path: tuple[str, ...] | None) -> str:
    return "unknown" if path is None else ", ".join(path) or "empty"
