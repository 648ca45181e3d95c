"""The dependencies that decorators were given: checked at once, and kept for the system checks.

Kept by the name of what is decorated: as many as the source has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Model

from django_pgnudge.errors import ConfigError, UnknownLabelError
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


def uses_nudged() -> bool:
    """Whether anything that is imported is decorated."""
    return bool(_declared)


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


def observes(
    dependencies: tuple[object, ...], by_arguments: object, observe: bool | None, what: str
) -> bool:
    """Whether a decorator with these arguments depends on what is read; raises as the next one."""
    if observe is None:
        observe = not dependencies and by_arguments is None
    check_dependencies(dependencies, what, may_be_empty=observe or by_arguments is not None)
    if by_arguments is not None and (isinstance(by_arguments, type) or not callable(by_arguments)):
        name = what.removesuffix("()")
        raise ConfigError(
            f"{name}(depends_on={by_arguments!r}): it is a function that gets the arguments and"
            " returns what the result depends on. What is known before is named without"
            f" depends_on=: @{name}({'3600, ' if name == 'nudged_page' else ''}Product)."
        )
    return observe


def check_dependencies(
    depends_on: tuple[object, ...], what: str, *, may_be_empty: bool = False
) -> None:
    """Raise ConfigError, where it is written, for what nothing can depend on."""
    if not depends_on and not may_be_empty:
        raise ConfigError(f"{what} names nothing that the value depends on.")
    for entry in depends_on:
        is_model = isinstance(entry, type) and issubclass(entry, Model)
        if not (is_model or isinstance(entry, Model | str | Row)) or entry == "":
            raise ConfigError(
                f"{what}: {entry!r} is nothing to depend on. Name a model, its label, a"
                " 'schema.table', an own nudge, nudged.row(model, pk), or a saved instance."
            )
