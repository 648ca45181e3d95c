"""The lease, the epoch and the tokens of a running daemon, as a reader finds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches
from servers.process import wait_until

from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.reader.keys import Lease
from tests.fix_nudged import lease_in, names_of
from tests.shop.models import Category


def cache() -> Any:
    return caches["default"]


def holds() -> Lease | None:
    """The lease that a reader would find."""
    return lease_in("default", names_of())


def epoch() -> str | None:
    lease = holds()
    return None if lease is None else lease.epoch


def plant(*names: str) -> None:
    cache().set_many(dict.fromkeys(names, "planted"), None)


def gone(*names: str) -> bool:
    return not cache().get_many(names)


def proven_again(running: BackgroundDaemon) -> None:
    """Wait for a lease that this daemon has proven from here on."""
    before = running.daemon.status().renewals
    wait_until(lambda: running.daemon.status().renewals > before and holds(), "a renewal")


@contextmanager
def cleared_daemon() -> Iterator[BackgroundDaemon]:
    """A daemon whose first Resync is over, which would clear what is planted before.

    A daemon that is slow has tried to get its lease, in vain, before that.
    """
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        yield running


def table_name() -> str:
    from django_pgnudge.registry import Registry

    return Registry("default").payload_of(Category)
