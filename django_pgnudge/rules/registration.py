"""Rules in an app's ``cachekeys.py``, which is loaded as ``admin.py`` is.

::

    from django_pgnudge import invalidates

    invalidates(Product, "products", "product:{pk}")


    @invalidates("shop.Order", version=2)
    def order_keys(event):
        return ["orders"]
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from django.utils.module_loading import autodiscover_modules

from django_pgnudge.errors import RuleError
from django_pgnudge.names import DjangosKeys
from django_pgnudge.rules.keyspecs import KeySpec, parse_keys, read_again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.db.models import Model

    from django_pgnudge.events import Event

F = TypeVar("F", bound="Callable[[Event], Any]")


@dataclass(frozen=True, slots=True)
class Registration:
    """One call of ``invalidates``."""

    target: str | type[Model]
    specs: dict[str, tuple[KeySpec, ...]]
    """By alias of CACHES."""
    version: int | None
    where: str
    again: float | None = None


_registered: list[Registration] = []


@overload
def invalidates(
    target: str | type[Model],
    *,
    cache: str | None = ...,
    version: int | None = ...,
    again: float | None = ...,
) -> Callable[[F], F]: ...
@overload
def invalidates(
    target: str | type[Model],
    *keys: object,
    cache: str | None = ...,
    version: int | None = ...,
    again: float | None = ...,
) -> None: ...
def invalidates(
    target: str | type[Model],
    *keys: object,
    cache: str | None = None,
    version: int | None = None,
    again: float | None = None,
) -> Callable[[F], F] | None:
    """Delete ``keys`` when the table of ``target`` changes.

    Without keys it decorates a function that returns them.

    ``target`` is a model, a model label, ``schema.table``, an own nudge's payload, or ``"*"`` for
    every table. Keys are
    written as in ``PGNUDGE["INVALIDATE"]``. ``again`` deletes them once more after that many
    seconds. Raises RuleError, a ConfigError, for an invalid key.
    """
    name = target if isinstance(target, str) else target._meta.label
    where = f"invalidates({name}, …)"
    if not (cache is None or isinstance(cache, str)) or not (
        version is None or type(version) is int
    ):
        raise RuleError(
            "E007",
            f"{where} has cache={cache!r}, version={version!r}.",
            "A cache is an alias of CACHES, a version a number or None.",
        )

    delay = read_again(again)

    def register(entries: tuple[object, ...]) -> None:
        _registered.append(Registration(target, by_cache(entries, cache), version, where, delay))

    if keys:
        register(keys)
        return None

    def decorate(function: F) -> F:
        register((function,))
        return function

    return decorate


def by_cache(entries: Iterable[object], cache: str | None) -> dict[str, tuple[KeySpec, ...]]:
    """The specs of entries by alias: ``cache``, or else the cache where each entry is by default.

    Raises RuleError.
    """
    found: dict[str, tuple[KeySpec, ...]] = {}
    for entry in entries:
        own = entry.alias() if isinstance(entry, DjangosKeys) else "default"
        alias = own if cache is None else cache
        found[alias] = (*found.get(alias, ()), *parse_keys(entry))
    return found


def registrations() -> tuple[Registration, ...]:
    """Everything registered so far, in order."""
    return tuple(_registered)


def autodiscover() -> None:
    """Import ``cachekeys`` of every installed app that has one."""
    autodiscover_modules("cachekeys")


@contextmanager
def sandbox() -> Iterator[None]:
    """Start without registrations and restore the former ones at the end; for tests."""
    before = list(_registered)
    _registered.clear()
    try:
        yield
    finally:
        _registered[:] = before
