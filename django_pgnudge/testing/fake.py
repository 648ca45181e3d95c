"""Does to the caches what the daemon would do, when a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.db.models import Model

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.events import Event
from django_pgnudge.reader import dependencies, executor, value
from django_pgnudge.reader.bypass import was_seen_well
from django_pgnudge.reader.dependencies import DependencyResolver, Row
from django_pgnudge.reader.entries import new_token
from django_pgnudge.reader.keys import Lease, Names, killed_tokens
from django_pgnudge.reader.lease_clock import LeaseClock
from django_pgnudge.testing.apart import LONGEST, apart


class _Everything(frozenset[str]):
    """The coverage of a stream that carries every table."""

    def __rsub__(self, other: Any) -> frozenset[str]:
        return frozenset()


class NudgeFake:
    """Does to the caches what the daemon would do, when a test calls it.

    It ignores transactions: changes in the test's transaction count as committed.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.tables = DependencyResolver(using)
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
            doomed |= killed_tokens(
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


def _always(*args: Any, **kwargs: Any) -> bool:
    return True


@contextmanager
def faked(using: str | None = None) -> Iterator[NudgeFake]:
    """``nudge_fake`` without pytest."""
    fake = NudgeFake(conf.DATABASE if using is None else using)
    with ExitStack() as stack:
        stack.enter_context(apart())
        stack.enter_context(mock.patch.dict(dependencies.resolvers))
        dependencies.resolvers.clear()
        dependencies.resolvers[fake.using, None] = fake.tables
        stack.enter_context(mock.patch.object(executor, "may_keep", was_seen_well))
        stack.enter_context(mock.patch.object(executor, "may_use_cache", _always))
        stack.enter_context(mock.patch.dict(value.coverages, {"fake": _Everything()}))
        stack.enter_context(mock.patch.object(LeaseClock, "believes", _always))
        fake.resync()
        yield fake
