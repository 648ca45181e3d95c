"""The dependencies that decorators were given, for the system checks.

Kept by the name of what is decorated: as many as the source has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Model

from django_pgnudge.errors import UnknownLabelError
from django_pgnudge.reader.dependencies import Row, parents_of
from django_pgnudge.registry.trees import expanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django_pgnudge.reader.dependencies import DependsOn
    from django_pgnudge.reader.value import NudgedOptions
    from django_pgnudge.registry import Registry


class _Declared(NamedTuple):
    depends_on: tuple[DependsOn, ...]
    options: NudgedOptions


_declared: dict[str, _Declared] = {}


def declare(what: str, depends_on: Iterable[DependsOn], options: NudgedOptions) -> None:
    """Remember what a decorated function depends on. ``what`` names it in messages."""
    _declared[what] = _Declared(tuple(depends_on), options)


def declared_tables(registry: Registry) -> Iterator[tuple[str, str]]:
    """Who depends on which table of the registry's database, as payloads; without own nudges.

    A name that means no model or table is left out: see `declared_mistakes`.
    """
    for what, target in _targets(registry):
        try:
            payload = registry.payload_of(target)
            found = registry.model_of(target) if isinstance(target, str) else target
            parents = map(registry.payload_of, parents_of(found))
        except UnknownLabelError:
            continue
        for table in (payload, *parents):
            if "." in table:
                yield what, table


def declared_mistakes(registry: Registry) -> Iterator[tuple[str, str]]:
    """Who depends on a name that means nothing, and what is wrong with it."""
    for what, target in _targets(registry):
        try:
            registry.payload_of(target)
        except UnknownLabelError as error:
            yield what, str(error)


def _targets(registry: Registry) -> Iterator[tuple[str, str | type[Model]]]:
    for what, (depends_on, options) in sorted(_declared.items()):
        if options.database == registry.using:
            for entry in depends_on:
                target = entry.target if isinstance(entry, Row) else entry
                if isinstance(target, Model):
                    yield what, type(target)
                    continue
                try:
                    whole = list(expanded([target], registry.model_of))
                except UnknownLabelError:  # what is asked for it says so, too
                    whole = [target]
                for each in whole:
                    yield what, each
