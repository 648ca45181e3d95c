"""Caches that third-party packages fill by themselves, and that the daemon invalidates for them.

An app of `django_pgnudge.contrib` registers its cache in ``ready()``. The daemon calls it in a
thread of its own, apart from the caches of rules, and calls it again until it succeeds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_pgnudge.registry import Registry


class Table(NamedTuple):
    """A table's schema and name, without quotes."""

    schema: str
    name: str


Rows: TypeAlias = frozenset[tuple[Any, ...]] | None
"""The primary keys of changed rows, in the model's order; None means any row."""


class ThirdPartyCache(ABC):
    """The cache of one package. The methods run in one thread, and raise if they fail."""

    name: str
    """The dotted name of the app, for log lines."""
    wants_rows = False
    """Whether `invalidate` makes use of primary keys."""

    @abstractmethod
    def invalidate(self, changes: Mapping[Table, Rows], registry: Registry) -> int:
        """End all that was cached from these rows; how many keys that were.

        The tables that changed come with their parents in PostgreSQL, and with their partitions.
        Must have succeeded when it returns. May be called again with the same changes.
        """

    @abstractmethod
    def invalidate_all(self, registry: Registry) -> int:
        """End all that the package has cached, likewise, and delete nothing of anyone else's."""

    def incarnation(self) -> str | None:
        """The run of the cache's server: another one may have an older memory. None if unknown."""
        return None


_registered: dict[str, ThirdPartyCache] = {}


def register(cache: ThirdPartyCache) -> None:
    """Have the daemon of this process invalidate ``cache``, too."""
    _registered[cache.name] = cache


def registered() -> tuple[ThirdPartyCache, ...]:
    """All that were registered."""
    return tuple(_registered.values())
