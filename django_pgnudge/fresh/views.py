"""What a view is: the name that its pages and tags are kept under, in every process.

Views are rarely plain functions. ``as_view()``, ``login_required()`` and other decorators return
closures, and one name stands for all that a factory makes. So a view is named by what it is made
of: the code, and what it closes over, recursively. Two views that differ in either have two names,
and a view that is made anew, in another process or at each request, has the one it had.

What has no content that can be compared, such as a generator or an open file, cannot be told from
another of its kind: a view that brings it along is called each time.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any, Final
from weakref import ReferenceType

from django.db.models import Field, QuerySet
from django.db.models.options import Options
from django.http import HttpRequest

from django_pgnudge.fresh.arguments import UnsureError, digest
from django_pgnudge.fresh.functions import code_text, qualified_name
from django_pgnudge.fresh.requests import named
from django_pgnudge.fresh.seldom import seldom
from django_pgnudge.log import get_logger

__all__ = ["ViewName", "call_key"]

logger = get_logger("django_pgnudge.nudged")

_MOST: Final = 20_000
"""So many parts of a view are looked at."""

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))

_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))

_OF_NO_MATTER: Final = (
    "__dict__", "__weakref__", "__doc__", "__annotations__", "__firstlineno__",
    "__static_attributes__", "_abc_impl",
)  # fmt: skip
"""What a local class holds and does not do."""


class ViewName:
    """A view's name: ``str()`` for logs, `full` for keys.

    It is asked for when a request comes: a closure may be completed after it is decorated.
    """

    __slots__ = ("_full", "_view")

    def __init__(self, view: Callable[..., Any]) -> None:
        self._view = view
        self._full: str | None = None

    def __str__(self) -> str:
        kind = getattr(self._view, "view_class", None) or getattr(self._view, "cls", None)
        named = self._view if hasattr(self._view, "__qualname__") else type(self._view)
        return qualified_name(kind or named)

    def __reduce__(self) -> tuple[Any, ...]:
        return ViewName, (self._view,)

    def full(self) -> str:
        """Raises UnsureError for a view that cannot be told from others."""
        if self._full is None:
            try:
                text = _Parts().text(self._view)
            except RecursionError:
                raise UnsureError(
                    "its view holds other objects too deep to be told apart"
                ) from None
            mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
            self._full = f"{self} {mark}"
        return self._full


def call_key(
    name: ViewName,
    request: HttpRequest,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    prefix: str,
    what: str,
) -> str | None:
    """A key of all that names a view's response but headers; None where there can be none.

    The address stands for the arguments that it gave the view. Others, from a decorator or a view
    that calls this one, do not show in it.
    """
    match = request.resolver_match
    given: tuple[object, ...] = (args, tuple(sorted(kwargs.items())))
    try:
        if match is not None and (args, kwargs) == (tuple(match.args), match.kwargs):
            given = ()
        return digest([name.full(), prefix, named(request), given], what)
    except Exception as error:  # comparing and naming run the arguments' own code
        if seldom(f"arguments {what}"):
            logger.warning("nudged: %s is called each time: %s.", what, str(error).rstrip("."))
        return None


class _Parts:
    """Injective: each part says its kind and its length; what comes again is said by its number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        # An id is of one object as long as that lives.
        self._alive: list[object] = []

    def text(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN:
            return _part(kind.__name__, repr(value))
        if isinstance(value, type):
            return _part("class", qualified_name(value)) if _is_found(value) else self._class(value)
        if isinstance(value, ModuleType):
            return _part("module", value.__name__)
        if _is_request(value):
            return _part("request", "")
        if kind is not tuple:
            if id(value) in self._seen:
                return _part("again", str(self._seen[id(value)]))
            self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        if len(self._alive) > _MOST:
            raise UnsureError(f"its view is made of more than {_MOST} parts")
        return self._made(kind, value)

    def _made(self, kind: type, value: Any) -> str:
        if kind is tuple or kind is list:
            return _part(kind.__name__, self._all(value))
        if kind is dict or kind is MappingProxyType:
            return _part(kind.__name__, "".join(self._all(item) for item in value.items()))
        if kind is set or kind is frozenset:
            return _part(kind.__name__, "".join(sorted(map(self.text, value))))
        if kind is FunctionType:
            return _part("function", self._function(value))
        if kind is MethodType:
            return _part("method", self._all((value.__func__, value.__self__)))
        if kind is BuiltinFunctionType:
            return _part("builtin", self._all((qualified_name(value), value.__self__)))
        if kind is CellType:
            return _part("cell", self._cell(value))
        if kind is property:
            return _part("property", self._all((value.fget, value.fset, value.fdel)))
        if kind is staticmethod or kind is classmethod:
            return _part(kind.__name__, self.text(value.__func__))
        if isinstance(value, _LOCKS):
            return _part("lock", "")
        if isinstance(value, ReferenceType):
            return _part("weak", self.text(value()))
        if isinstance(value, Options):
            return _part("options", value.label)
        if isinstance(value, QuerySet):
            # Its own way to be pickled runs the query.
            held = {**vars(value), "_result_cache": None, "_prefetch_done": False}
            return _part("queryset", self.text(kind) + self.text(held))
        return _part("object", self._object(value))

    def _all(self, values: Iterable[Any]) -> str:
        return "".join([self.text(value) for value in values])

    def _function(self, function: FunctionType) -> str:
        if _is_found(function):
            return _part("name", qualified_name(function))
        return self._all(
            (
                qualified_name(function),
                _code(function.__code__),
                function.__closure__,
                function.__defaults__,
                function.__kwdefaults__,
                vars(function),
            )
        )

    def _cell(self, cell: CellType) -> str:
        try:
            return self.text(cell.cell_contents)
        except ValueError:
            return "empty"

    def _class(self, kind: type) -> str:
        """A class of which there are many by its name: what it is derived from, and holds."""
        if id(kind) in self._seen:
            return _part("again", str(self._seen[id(kind)]))
        self._seen[id(kind)] = len(self._seen)
        self._alive.append(kind)
        held = {name: value for name, value in vars(kind).items() if name not in _OF_NO_MATTER}
        return _part("local", self._all((qualified_name(kind), type(kind), kind.__bases__, held)))

    def _object(self, value: Any) -> str:
        """All that a copy of it would be made from."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            made_of = value.__reduce_ex__(4) if reduce is None else reduce(value)
            if isinstance(made_of, str):
                # A name, if a module has it; functools.lru_cache says the same of what has none.
                inside = None if _is_found(value) else value.__wrapped__
                made_of = (type(value), made_of, inside)
        except RecursionError:
            raise
        except Exception:
            raise UnsureError(
                f"its view holds a {qualified_name(type(value))}, which cannot be told from"
                " another. Write a view that makes or imports it, with def at module level"
            ) from None
        how, given, state, *inside = (*made_of, None, None, None)[:6]
        # What a list or a dict of its own kind contains comes as iterators.
        items = [each and tuple(each) for each in inside[:2]]
        # Its own way to be copied may leave out what it holds, such as a secret.
        held = vars(value) if hasattr(value, "__dict__") and _has_own_way(type(value)) else None
        return self._all((how, given, state, held, *items))


def _is_found(named: Any) -> bool:
    """Whether it is what its name finds, in a module that every process imports by its name."""
    if named.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(named.__module__ or "")
    for name in named.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is named


def _has_own_way(kind: type) -> bool:
    ways = [getattr(kind, name, None) for name in ("__getstate__", "__reduce__", "__reduce_ex__")]
    return any(isinstance(way, FunctionType) for way in ways) and not issubclass(kind, Field)


def _is_request(value: Any) -> bool:
    """The request, which the address and its headers name; a framework's wraps Django's."""
    return isinstance(value, HttpRequest) or isinstance(
        getattr(value, "__dict__", {}).get("_request"), HttpRequest
    )


@functools.lru_cache(1024)
def _code(code: Any) -> str:
    return code_text(code)


def _part(kind: str, text: str) -> str:
    return f"{len(kind)}:{kind}{len(text)}:{text}"
