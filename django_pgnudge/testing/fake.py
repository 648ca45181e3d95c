"""Does to the caches what the daemon would do, when a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db.models import Model

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.events import Event
from django_pgnudge.reader.bypass import SessionBypass, was_seen_well
from django_pgnudge.reader.dependencies import Row
from django_pgnudge.reader.entries import new_token
from django_pgnudge.reader.keys import Lease, Names, ended_tokens
from django_pgnudge.reader.lease_clock import LeaseClock
from django_pgnudge.reader.query_watch import Seen
from django_pgnudge.reader.scope import Scope
from django_pgnudge.reader.state import ReaderState, empty_states
from django_pgnudge.testing.apart import LONGEST, apart


class _Everything(frozenset[str]):
    """The coverage of a stream that carries every table."""

    def __rsub__(self, other: Any) -> frozenset[str]:
        return frozenset()


class _AnyLease(LeaseClock):
    def believes(self, lease: Lease, now: float, one_clock: bool, *, skew: float) -> bool:
        return True


_ANY_LEASE: Final = _AnyLease()


class BelievingState(ReaderState):
    """Believes each lease that the fake writes."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self.coverages["fake"] = _Everything()

    def clock(self, ground: Any) -> LeaseClock:
        return _ANY_LEASE


class _AnySession(SessionBypass):
    def may_use_cache(self, scope: Scope) -> bool:
        return True

    def may_keep(self, seen: Seen, what: str) -> bool:
        return was_seen_well(seen, what)


class _FakeState(BelievingState):
    """Takes a transaction for what is committed."""

    is_of_tests = True

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self.sessions = _AnySession(using, self.resolver)


class NudgeFake:
    """Does to the caches what the daemon would do, when a test calls it.

    It ignores transactions: changes in the test's transaction count as committed.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.state: ReaderState = _FakeState(using)
        self.tables = self.state.tables
        self.tables.trust_models()
        self.names = Names.of(self.tables.identity() or "")
        self._epoch = "fake"

    def lease(self) -> None:
        """Write a lease that lasts for `LONGEST`."""
        for alias in conf.NUDGED["CACHES"]:
            values = caches.values(alias)
            lease = Lease(values.now(self.names.lease), LONGEST, self._epoch, "fake", "fake")
            values.set_text(self.names.lease, lease.text(), LONGEST)

    def no_lease(self) -> None:
        """Delete the lease, as if runnudge were down: values are neither served nor kept."""
        self._delete([self.names.lease])

    def changed(self, target: type[Model] | str, *, pk: Any = None) -> None:
        """Report a changed table: the row with this primary key, or any row."""
        entry = target if pk is None else Row(target, pk)
        doomed: set[str] = set()
        for dependency in self.tables.dependencies([entry]) or ():
            keys = None if dependency.row is None else frozenset({dependency.row})
            doomed |= ended_tokens(
                self.names, [dependency.payload], Event(dependency.payload, 0.0, 1, keys)
            )
        self._delete(doomed)

    def resync(self) -> None:
        """Report that anything may have changed."""
        self._epoch = new_token()
        self.lease()

    def _delete(self, keys: Any) -> None:
        for alias in conf.NUDGED["CACHES"]:
            caches.values(alias).delete(keys)


@contextmanager
def faked(using: str | None = None) -> Iterator[NudgeFake]:
    """``nudge_fake`` without pytest."""
    fake = NudgeFake(conf.DATABASE if using is None else using)

    def make(alias: str) -> ReaderState:
        return fake.state if alias == fake.using else _FakeState(alias)

    with apart(), empty_states(make):
        fake.resync()
        yield fake
