"""Which tables ``TABLES`` and ``EXCLUDE`` select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from django_pgnudge.conf import conf
from django_pgnudge.registry.labels import is_meant

if TYPE_CHECKING:
    from collections.abc import Callable


class Tables(Protocol):
    """The registry, as far as a selection needs it."""

    def lineage(self, payload: str) -> tuple[str, ...]: ...

    def split(self, payload: str) -> tuple[str, str]: ...

    def payload_of(self, entry: str) -> str: ...

    def is_table(self, payload: str) -> bool: ...


def selection(tables: Tables, caches: frozenset[str]) -> Callable[[str], bool]:
    """Whether a payload is selected, as a function that reads the settings once.

    ``caches`` are the tables of caches, which never are. An application's own nudges are, unless
    ``EXCLUDE`` names them.
    """

    def matching(entry: str) -> Callable[[tuple[str, ...]], bool]:
        named = tables.payload_of(entry)
        if "*" not in entry:
            return lambda lineage: named in lineage
        return lambda lineage: any(is_meant(named, *tables.split(payload)) for payload in lineage)

    only = None if conf.TABLES is None else [*map(matching, conf.TABLES)]
    exclude = [*map(matching, conf.EXCLUDE)]

    def selected(payload: str) -> bool:
        lineage = tables.lineage(payload)
        if not caches.isdisjoint(lineage):
            return False
        if only is not None and not any(matches(lineage) for matches in only):
            return not tables.is_table(payload)
        return not any(matches(lineage) for matches in exclude)

    return selected
