"""The content of an object as a text: two objects that differ in anything have different texts.

For objects without a name of their own: a view that a factory made, or what middleware has put on
a request. The text is made of the content, recursively: for a function its code and what it closes
over, for another object its class and all that it has. An equal object has the same text in another
process and in another request.

Some objects have no content that can be compared, such as a generator or an open file. They cannot
be told from others of their kind.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator
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
from django.utils.functional import LazyObject

from django_pgnudge.errors import UnsureError
from django_pgnudge.reader.arguments import unwrapped
from django_pgnudge.reader.function_names import code_text, qualified_name

_MOST: Final = 20_000
"""An object that is made of more parts is refused."""

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))

_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))

_OF_NO_MATTER: Final = (
    "__dict__", "__weakref__", "__doc__", "__annotations__", "__firstlineno__",
    "__static_attributes__", "_abc_impl",
)  # fmt: skip
"""Attributes of a local class that do not change what it does."""

_CONTAINERS: Final[dict[type, Any]] = {
    dict: dict.items, list: list.__iter__, tuple: tuple.__iter__, set: set.__iter__,
    frozenset: frozenset.__iter__, str: str.__str__, bytes: bytes.hex, int: int.__int__,
}  # fmt: skip
"""How to get the contents of an instance, also where a subclass overrides its methods."""


def content_digest(
    value: object, told_elsewhere: Iterable[object] = (), *, strict: bool = False
) -> str:
    """A digest of an object's content.

    What is ``told_elsewhere``, such as the request, counts as the same for all. Raises UnsureError
    for what cannot be told from another of its kind; if ``strict`` also for a bare ``object()``,
    since a module may compare one with another.
    """
    try:
        text = _Parts(told_elsewhere, strict=strict).text(value)
    except RecursionError:
        raise UnsureError("it holds other objects too deep to be told apart") from None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


class _Parts:
    """Injective: each part says its kind and its length, and what comes again has a number."""

    def __init__(self, told_elsewhere: Iterable[object], *, strict: bool = False) -> None:
        self._told_elsewhere = tuple(told_elsewhere)
        self._strict = strict
        self._seen: dict[int, int] = {}
        # Another object may get the id of one that is gone.
        self._alive: list[object] = []

    def text(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN:
            return _part(kind.__name__, repr(value))
        if any(value is each for each in self._told_elsewhere):
            return _part("known", "")
        if issubclass(kind, LazyObject):
            return _part("lazy", self.text(unwrapped(value)))
        if isinstance(value, type):
            return _part("class", qualified_name(value)) if _is_found(value) else self._class(value)
        if isinstance(value, ModuleType):
            return _part("module", value.__name__)
        if kind is object and self._strict:
            raise UnsureError("it holds an object() that is compared by what it is")
        if kind is not tuple:
            if id(value) in self._seen:
                return _part("again", str(self._seen[id(value)]))
            self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        if len(self._alive) > _MOST:
            raise UnsureError(f"it is made of more than {_MOST} parts")
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
            attributes = {**vars(value), "_result_cache": None, "_prefetch_done": False}
            return _part("queryset", self.text(kind) + self.text(attributes))
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
        ) + self._annotations(function)

    def _annotations(self, function: FunctionType) -> str:
        """Some frameworks call a view with what its annotations name."""
        try:
            return self.text(function.__annotations__)
        except (UnsureError, NameError):
            return _part("annotations", "")

    def _cell(self, cell: CellType) -> str:
        try:
            return self.text(cell.cell_contents)
        except ValueError:
            return "empty"

    def _class(self, kind: type) -> str:
        """A class whose name others may share: its bases and its body."""
        if id(kind) in self._seen:
            return _part("again", str(self._seen[id(kind)]))
        self._seen[id(kind)] = len(self._seen)
        self._alive.append(kind)
        attributes = {
            name: value for name, value in vars(kind).items() if name not in _OF_NO_MATTER
        }
        return _part(
            "local", self._all((qualified_name(kind), type(kind), kind.__bases__, attributes))
        )

    def _object(self, value: Any) -> str:
        """Everything that a copy would be made from."""
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
                f"it holds a {qualified_name(type(value))}, which cannot be told from another"
            ) from None
        how, given, state, *inside = (*made_of, None, None, None)[:6]
        # The contents of subclasses of list and dict come as iterators.
        items = [each and tuple(each) for each in inside[:2]]
        # A class that says how to be copied may leave something out, such as a secret.
        contents = tuple(_contents(value)) if _has_own_way(type(value)) else None
        return self._all((how, given, state, contents, *items))


def _contents(value: Any) -> Iterator[object]:
    """All that an object has: attributes, slots, and its contents."""
    yield getattr(value, "__dict__", None)
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            if mangled not in ("__dict__", "__weakref__"):
                yield getattr(value, mangled, None)
    for base, contained in _CONTAINERS.items():
        if isinstance(value, base):
            inside = contained(value)
            yield inside if isinstance(inside, str | int) else tuple(inside)


def _is_found(named: Any) -> bool:
    """Whether its name finds it, in a module that every process imports by the same name."""
    if named.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(named.__module__ or "")
    for name in named.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is named


def _has_own_way(kind: type) -> bool:
    ways = [getattr(kind, name, None) for name in ("__getstate__", "__reduce__", "__reduce_ex__")]
    return any(isinstance(way, FunctionType) for way in ways) and not issubclass(kind, Field)


@functools.lru_cache(1024)
def _code(code: Any) -> str:
    return code_text(code)


def _part(kind: str, text: str) -> str:
    return f"{len(kind)}:{kind}{len(text)}:{text}"
