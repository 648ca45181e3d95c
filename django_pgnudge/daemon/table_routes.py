"""What the daemon must know of a table for every change of it, looked up once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from django_pgnudge.registry import Registry

MOST: Final = 10_000
"""Names kept; an application's own nudges may have any number of them."""


class TableRoute(NamedTuple):
    """As of the registry's last refresh."""

    selected: bool
    lineage: tuple[str, ...]
    root: str


class TableRoutes:
    """By payload. Follows the registry: after its ``refresh`` tables are looked up anew."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._known: dict[str, TableRoute] = {}

    def __getitem__(self, payload: str) -> TableRoute:
        registry = self._registry
        if self._generation != registry.generation or len(self._known) > MOST:
            self._known = {}
            self._generation = registry.generation
        table = self._known.get(payload)
        if table is None:
            table = self._known[payload] = TableRoute(
                registry.selected(payload), registry.lineage(payload), registry.root_of(payload)
            )
        return table
