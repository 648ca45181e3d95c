"""Which tables ``TABLES`` and ``EXCLUDE`` select."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_pgnudge.conf import conf
from django_pgnudge.registry.labels import is_meant

if TYPE_CHECKING:
    from collections.abc import Callable


def selection(
    lineage_of: Callable[[str], tuple[str, ...]],
    is_known: Callable[[str], bool],
    payload_of: Callable[[str], str],
    split: Callable[[str], tuple[str, str]],
    excluded: frozenset[str],
) -> Callable[[str], bool]:
    """Whether a payload is selected, as a function that reads the settings once.

    ``is_known`` says whether a payload is a table's: others, which are an application's own nudges,
    are selected unless ``EXCLUDE`` names them. ``excluded`` are never selected.
    """

    def matching(entry: str) -> Callable[[tuple[str, ...]], bool]:
        named = payload_of(entry)
        if "*" not in entry:
            return lambda lineage: named in lineage
        return lambda lineage: any(is_meant(named, *split(payload)) for payload in lineage)

    tables = None if conf.TABLES is None else [*map(matching, conf.TABLES)]
    exclude = [*map(matching, conf.EXCLUDE)]

    def selected(payload: str) -> bool:
        lineage = lineage_of(payload)
        if not excluded.isdisjoint(lineage):
            return False
        if tables is not None and not any(matches(lineage) for matches in tables):
            return not is_known(payload)
        return not any(matches(lineage) for matches in exclude)

    return selected
