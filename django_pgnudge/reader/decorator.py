"""``nudged``: what users call."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import inspect
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_pgnudge.conf import conf
from django_pgnudge.errors import ConfigError, UnsureError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.reader.arguments import bind, digest, instances_in, unwrapped
from django_pgnudge.reader.declared import check_dependencies, declare, observes
from django_pgnudge.reader.dependencies import DependsOn, listed, row
from django_pgnudge.reader.function_names import name_of, qualified_name, signature_of
from django_pgnudge.reader.nested import note_unkept, reading, reading_since
from django_pgnudge.reader.scope import scope_of
from django_pgnudge.reader.state import reader_state
from django_pgnudge.reader.value import WAIT, NudgedOptions, Value
from django_pgnudge.registry.trees import tree

logger = get_logger("django_pgnudge.nudged")

P = ParamSpec("P")
R = TypeVar("R")

PLAIN: Final = frozenset({int, str, bool, bytes, type(None), uuid.UUID, dt.date})
"""Equal values of one of these types have the same key."""

UNCHANGING: Final = (
    int, str, bytes, float, Decimal, type(None), uuid.UUID, dt.date, dt.time, dt.timedelta,
    enum.Enum,
)  # fmt: skip
"""A default of one of these types cannot change between two calls."""

DependsOnArguments = Callable[..., Iterable[DependsOn]]


class NudgedFunction(Generic[P, R]):
    """A function whose results are cached; ``__wrapped__`` is the function itself."""

    __name__: str
    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        depends_on: tuple[DependsOn, ...],
        by_arguments: DependsOnArguments | None,
        key: Callable[..., object] | None,
        options: NudgedOptions,
    ) -> None:
        self._function: Callable[..., Any] = function
        self._depends_on = depends_on
        self._by_arguments = by_arguments
        self._key = key
        self._options = options
        self._name = name_of(function, key)
        self._signature = signature_of(function)
        self._is_plain = key is None and by_arguments is None and _is_constant(self._signature)
        self._key_takes_all = key is not None and _takes_all(signature_of(key), self._signature)
        self._is_async = iscoroutinefunction(function)
        functools.update_wrapper(self, function)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._get(args, kwargs, may_hit=True)
        return result

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> BoundNudged[R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Self | BoundNudged[R]:
        return self if instance is None else BoundNudged(self, instance)

    def __repr__(self) -> str:
        return f"<nudged {self._name}>"

    @property
    def tables(self) -> frozenset[str] | None:
        """The payloads of the tables that runs in this process have read, if it is observed.

        None before anything is known, and for a function that names its dependencies.
        """
        return reader_state(self._options.database).learned.of(self._name)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in any case, and keep what it returns."""
        return cast("R", self._get(args, kwargs, may_hit=False))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result for these arguments."""
        with suppress(UnsureError):  # nothing is kept
            self._value(args, kwargs).delete()

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """``invalidate`` for async code."""
        with suppress(UnsureError):
            await sync_to_async(self._value(args, kwargs).delete)()

    def _get(self, args: Any, kwargs: Any, *, may_hit: bool) -> Any:
        compute = functools.partial(self._function, *args, **kwargs)
        try:
            value = self._value(args, kwargs)
        except UnsureError as unsure:
            self._say(unsure)
            note_unkept(self._name)
            return compute()
        if self._is_async:
            return value.aget(compute, may_hit=may_hit)
        return value.get(compute, may_hit=may_hit)

    def _say(self, unsure: UnsureError) -> None:
        if may_log(f"unsure {self._name}"):
            logger.warning(
                "nudged: %s is handed an instance that cannot be told from others (%s), so it is"
                " called and not cached. Pass the primary key and query inside, or pass key=.",
                self._name,
                unsure,
            )

    def _value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """The same object again for the same arguments, settings and scope, if possible."""
        kinds = tuple(map(type, (*args, *kwargs.values())))
        if not self._is_plain or not PLAIN.issuperset(kinds):
            return self._make_value(args, kwargs)
        using = self._options.database
        values = reader_state(using).values
        call = self, args, tuple(kwargs.items()), kinds, conf.generation, scope_of(using)
        value: Value | None = values.get(call)
        if value is None:
            value = values[call] = self._make_value(args, kwargs)
        return value

    def _make_value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        bound = bind(self._signature, args, kwargs)
        name = digest(self._keyed(bound, args, kwargs), self._name, self._options.database)
        depends_on = self._depends_on
        if self._by_arguments is not None:
            more = listed(self._by_arguments(*args, **kwargs))
            depends_on = (*depends_on, *map(unwrapped, more))
        handed = any(True for _ in instances_in(bound.arguments.values()))
        return Value(
            f"{self._name}({name})",
            depends_on,
            self._options,
            self._name,
            handed=handed,
            since=reading_since() if handed else None,
        )

    def _keyed(
        self, bound: inspect.BoundArguments, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[object]:
        """What tells the result apart from those for other arguments."""
        if self._key is None:
            return [
                tuple(value.items()) if isinstance(value, dict) and _is_rest(bound, name) else value
                for name, value in bound.arguments.items()
            ]
        if self._key_takes_all:
            return [self._key(*bound.args, **bound.kwargs)]
        return [self._key(*args, **kwargs)]


def _is_rest(bound: inspect.BoundArguments, name: str) -> bool:
    return bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD


def _is_constant(signature: inspect.Signature) -> bool:
    """Whether no default can change, so that the arguments passed are all that matters."""
    defaults = [parameter.default for parameter in signature.parameters.values()]
    return all(each is inspect.Parameter.empty or isinstance(each, UNCHANGING) for each in defaults)


def _takes_all(key: inspect.Signature, function: inspect.Signature) -> bool:
    """Whether ``key`` takes each of the function's arguments, including those with defaults."""
    positional: list[None] = []
    named: dict[str, None] = {}
    for name, parameter in function.parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = None
        elif parameter.kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            positional.append(None)
    try:
        key.bind(*positional, **named)
    except TypeError:
        return False
    return True


class BoundNudged(Generic[R]):
    """A nudged method of one instance."""

    def __init__(self, function: NudgedFunction[Any, R], instance: object) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__wrapped__ = function.__wrapped__.__get__(instance)
        if iscoroutinefunction(function):
            markcoroutinefunction(self)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self.__func__(self.__self__, *args, **kwargs)

    def refresh(self, *args: Any, **kwargs: Any) -> R:
        """Call the method in any case, and keep what it returns."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """Forget the result for these arguments."""
        self.__func__.invalidate(self.__self__, *args, **kwargs)

    async def ainvalidate(self, *args: Any, **kwargs: Any) -> None:
        """``invalidate`` for async code."""
        await self.__func__.ainvalidate(self.__self__, *args, **kwargs)


class Decorator(Protocol):
    """What ``nudged(...)`` returns."""

    def __call__(self, function: Callable[P, R], /) -> NudgedFunction[P, R]: ...


class Nudged:
    """Cached values that are at most a lease late; see the page on nudged values."""

    row = staticmethod(row)
    tree = staticmethod(tree)
    reading = staticmethod(reading)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a model is callable, too
        self,
        *dependencies: DependsOn,
        timeout: float | None = DEFAULT_TIMEOUT,
        cache: str | None = None,
        key: Callable[..., object] | None = None,
        using: str | None = None,
        wait: float = WAIT,
        depends_on: DependsOnArguments | None = None,
        observe: bool | None = None,
    ) -> Decorator: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> NudgedFunction[P, R]: ...
    def __call__(
        self,
        *dependencies: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        cache: str | None = None,
        key: Callable[..., object] | None = None,
        using: str | None = None,
        wait: float = WAIT,
        depends_on: DependsOnArguments | None = None,
        observe: bool | None = None,
    ) -> Any:
        """Cache what a function or coroutine function returns, until what it read changes.

        Without ``dependencies`` PostgreSQL is asked what the function read. ``dependencies`` are
        models, labels, ``schema.table``, own nudges, ``nudged.row`` and ``nudged.tree``;
        ``depends_on`` gets the function's arguments and returns more of them. If any are named, the
        value depends on these alone, or with ``observe=True`` also on what the function read.
        ``timeout`` and ``cache`` are Django's; ``key`` gets the arguments and returns what tells
        results apart.
        ``wait`` is how many seconds to wait for another caller who computes the same, 0 for none.
        """
        if len(dependencies) == 1 and inspect.isroutine(dependencies[0]):
            return self()(dependencies[0])  # @nudged without parentheses
        observe = observes(dependencies, depends_on, observe, "nudged()")

        def decorate(function: Callable[P, R]) -> NudgedFunction[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigError(
                    f"nudged: {qualified_name(function)} is a generator, and what it yields is"
                    " gone once read. Return a list."
                )
            if isinstance(function, classmethod | staticmethod):
                raise ConfigError(
                    "nudged: write @classmethod and @staticmethod above @nudged, not below."
                )
            options = NudgedOptions(timeout, cache, using, wait, observe)
            nudged_function = NudgedFunction(function, dependencies, depends_on, key, options)
            declare(qualified_name(function), dependencies, options)
            return nudged_function

        return decorate

    def get_or_set(
        self,
        key: str,
        default: Any,
        *,
        depends_on: Iterable[DependsOn] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        cache: str | None = None,
        version: int | None = None,
        using: str | None = None,
        wait: float = WAIT,
    ) -> Any:
        """The value under ``key``; or else ``default``, called if it is callable, and then kept.

        Without ``depends_on`` the value depends on what ``default`` reads. Pass a function that
        reads the value. A plain value is kept only if it was read inside a request or
        ``nudged.reading()``.
        """
        value = _named(
            key, version, depends_on, NudgedOptions(timeout, cache, using, wait), default
        )
        return value.get(lambda: default() if callable(default) else default)

    async def aget_or_set(
        self,
        key: str,
        default: Any,
        *,
        depends_on: Iterable[DependsOn] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - the entry's
        cache: str | None = None,
        version: int | None = None,
        using: str | None = None,
        wait: float = WAIT,
    ) -> Any:
        """``get_or_set`` for async code; ``default`` may be a coroutine function."""
        value = _named(
            key, version, depends_on, NudgedOptions(timeout, cache, using, wait), default
        )

        async def compute() -> Any:
            made = default() if callable(default) else default
            return await made if isinstance(made, Awaitable) else made

        return await value.aget(compute)

    def delete(
        self,
        key: str,
        *,
        cache: str | None = None,
        version: int | None = None,
        using: str | None = None,
    ) -> None:
        """Forget the value ``get_or_set`` keeps under ``key``."""
        Value(_name(key, version), (), NudgedOptions(cache=cache, using=using), "").delete()

    async def adelete(
        self,
        key: str,
        *,
        cache: str | None = None,
        version: int | None = None,
        using: str | None = None,
    ) -> None:
        """``delete`` for async code."""
        value = Value(_name(key, version), (), NudgedOptions(cache=cache, using=using), "")
        await sync_to_async(value.delete)()


def _named(
    key: str,
    version: int | None,
    depends_on: Iterable[DependsOn] | None,
    options: NudgedOptions,
    default: object,
) -> Value:
    what, handed = f"nudged value {key!r}", not callable(default)
    entries = () if depends_on is None else listed(depends_on)
    if depends_on is None:
        if handed:
            raise ConfigError(
                f"nudged.get_or_set({key!r}) is handed a value that was read before, so what it"
                " depends on is not seen. Pass a function that reads it, or name depends_on=."
            )
        options = replace(options, is_observed=True)
    else:
        check_dependencies(entries, f"nudged.get_or_set({key!r})")
    since = reading_since() if handed else None
    family = f"default {_function_name(default)}"
    return Value(
        _name(key, version), entries, options, what, handed=handed, since=since, family=family
    )


def _function_name(function: Any) -> str:
    """The same for all objects that one definition makes: closures, partials, bound methods."""
    while isinstance(function, functools.partial):
        function = function.func
    return qualified_name(function if hasattr(function, "__qualname__") else type(function))


def _name(key: str, version: int | None) -> str:
    if not isinstance(key, str) or not key:
        raise ConfigError(f"nudged: {key!r} is no cache key. Give a string.")
    return f"key {version!r}:{key}"


nudged = Nudged()
