"""Arguments as a cache key: what a function can tell apart has two keys, in every process.

What may stand in a key: None, booleans, numbers, strings, bytes, dates, times and durations,
UUIDs, decimals, members of enums, classes, saved model instances, and tuples, named tuples, lists
and frozensets of these. Types are told apart, and a subclass is another type: ``1``, ``True`` and
``"1"`` are three, ``SafeString("1")`` a fourth. A lazy object is what it stands for.

The key of a model instance is made of all that it has in memory: its class, its database, the
loaded fields, other attributes, and the instances that relations have loaded. An instance that a
form has changed differs from the row, and has another key.
"""

# ruff: noqa: SLF001 - what an instance holds has no public name

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import inspect
import pickle
import struct
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, NoReturn

from django.apps import apps
from django.db.models import Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.utils.functional import LazyObject, Promise, empty

from django_pgnudge.errors import UnsureError
from django_pgnudge.reader.function_names import qualified_name

_ANONYMOUS: Final = "django.contrib.auth.models.AnonymousUser"

_TEXTUAL: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda value: "",
    bool: str,
    int: lambda value: int.__format__(value, "x"),
    float: lambda value: struct.pack(">d", float.__float__(value)).hex(),
    str: str.__str__,
    bytes: bytes.hex,
    Decimal: Decimal.__str__,
    uuid.UUID: uuid.UUID.__str__,
    dt.datetime: lambda value: _moment(dt.datetime, value),
    dt.date: dt.date.isoformat,
    dt.time: lambda value: _moment(dt.time, value),
    dt.timedelta: lambda value: f"{value.days} {value.seconds} {value.microseconds}",
}
"""The text of a value of each type, also where a subclass overrides its methods."""


class Attributes(dict[str, Any]):
    """Values by name, of any kind, as an instance has them."""


def digest(values: Iterable[object], what: str, using: str | None = None) -> str:
    """A key of these values; ``what`` names the function that takes them, in messages.

    Raises TypeError for a value whose kind has no key, and UnsureError for a model instance that
    holds one, or was read from another database than ``using``.
    """
    try:
        encoder = _Encoder(what, using)
        text = "".join([encoder.encode(value) for value in values])
    except RecursionError:
        raise UnsureError("it holds other objects too deep to be told apart") from None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def bind(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments with the defaults of those left out, the same however they were passed."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = dict(sorted(value.items()))
    return bound


def instances_in(values: Iterable[object]) -> Iterator[Model]:
    """The model instances among the values, also those inside containers."""
    for value in values:
        if isinstance(value, Model):
            yield value
        elif isinstance(value, tuple | list | frozenset | set):
            yield from instances_in(value)
        elif isinstance(value, dict):
            yield from instances_in(value.values())


def unwrapped(value: Any) -> Any:
    """What a lazy object such as ``request.user`` stands for."""
    while issubclass(type(value), LazyObject):
        if value._wrapped is empty:
            value._setup()
        value = value._wrapped
    return value


class _Encoder:
    """Injective: each part says its type and its length."""

    def __init__(self, what: str, using: str | None) -> None:
        self._what = what
        self._using = using
        self._seen: dict[int, int] = {}
        self._path: list[str] = []

    def encode(self, value: Any) -> str:
        kind = type(value)
        if kind in _TEXTUAL:
            return self._text(kind, kind.__name__, value)
        if kind is tuple or kind is list:
            return _part(kind.__name__, self._all(value))
        if kind is frozenset:
            return _part("frozenset", self._any_order(value))
        if issubclass(kind, LazyObject):
            return self.encode(unwrapped(value))
        if issubclass(kind, Model):
            return self._instance(value)
        if issubclass(kind, enum.Enum):
            return self._member(value)
        if issubclass(kind, type):
            return _part("class", self._class(value))
        if issubclass(kind, tuple) and hasattr(kind, "_fields") and not hasattr(value, "__dict__"):
            return _part(f"named {self._class(kind)}", self._all(value))
        base = next((each for each in kind.__mro__ if each in _TEXTUAL), None)
        if base is not None and _is_only(base, value):
            return self._text(base, f"{base.__name__} {self._class(kind)}", value)
        if kind is Attributes:
            return _part("held", self._attributes(value))
        if qualified_name(kind) == _ANONYMOUS:
            return _part("anonymous", self._attributes(vars(value)))
        if self._path:
            return self._attribute(value)
        return self._refuse(value)

    def _all(self, values: Iterable[Any]) -> str:
        return "".join([self.encode(value) for value in values])

    def _any_order(self, values: Iterable[Any]) -> str:
        return "".join(sorted(self.encode(value) for value in values))

    def _text(self, base: type, name: str, value: Any) -> str:
        try:
            return _part(name, _TEXTUAL[base](value))
        except _NoTextError:
            return self._refuse(value)

    def _member(self, value: enum.Enum) -> str:
        kind = self._class(type(value))
        if isinstance(value, enum.Flag):  # combinations have no name
            return _part(f"flag {kind}", f"{value.value:x}")
        if type(value).__members__.get(value.name) is not value:
            return self._refuse(value)
        return _part(f"enum {kind}", value.name)

    def _class(self, kind: type) -> str:
        """A class by its name, if it is found by it: many local classes may share a name."""
        if issubclass(kind, Model) and kind._meta.model_name:
            label = kind._meta.label
            model = apps.all_models[kind._meta.app_label].get(kind._meta.model_name)
            return label if model is kind else self._refuse(kind)
        found: Any = sys.modules.get(kind.__module__)
        for name in kind.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not kind or kind.__module__ == "__main__":
            return self._refuse(kind)
        return qualified_name(kind)

    def _instance(self, value: Model) -> str:
        pk = value.pk if isinstance(value.pk, tuple) else (value.pk,)
        if None in pk and not self._path:
            raise TypeError(f"{self._what}: {value!r} is not saved, and has no primary key.")
        if id(value) in self._seen:
            return _part("again", str(self._seen[id(value)]))
        self._seen[id(value)] = len(self._seen)
        state = value._state
        if self._using is not None and state.db not in (None, self._using):
            raise UnsureError(f"{self._where(value)} was read from the database {state.db!r}")
        attributes = {**vars(value), "_state": (state.db, state.adding)}
        prefetched = attributes.pop("_prefetched_objects_cache", {})
        return _part(
            f"model {self._class(type(value))}",
            self._attributes(attributes)
            + _part("related", self._attributes(state.fields_cache))
            + _part("prefetched", self._attributes(prefetched)),
        )

    def _attributes(self, attributes: dict[str, Any]) -> str:
        parts = []
        for name in sorted(attributes):
            self._path.append(name)
            parts.append(_part(name, self.encode(attributes[name])))
            self._path.pop()
        return "".join(parts)

    def _attribute(self, value: Any) -> str:
        """What else an instance may have: whatever a field makes of its column."""
        kind = type(value)
        if kind is dict:
            return _part("dict", "".join(self._all(item) for item in value.items()))
        if kind is set:
            return _part("set", self._any_order(value))
        if isinstance(value, QuerySet):
            # To pickle one that is not evaluated would run the query.
            rows = value._result_cache
            return self._refuse(value) if rows is None else _part("rows", self._all(rows))
        if isinstance(value, FieldFile):
            if not getattr(value, "_committed", False):
                return self._refuse(value)
            return _part(f"file {self._class(kind)}", self.encode(value.name))
        if kind is memoryview:
            return _part("memoryview", value.tobytes().hex())
        try:
            return _part("pickle", pickle.dumps(value, 5).hex())
        except RecursionError:
            raise
        except Exception:
            return self._refuse(value)

    def _where(self, value: Any) -> str:
        return ".".join(self._path) or f"a {type(value).__name__}"

    def _refuse(self, value: Any) -> NoReturn:
        if self._path:
            raise UnsureError(f"{self._where(value)} holds a {type(value).__name__}")
        if isinstance(value, Promise):
            raise TypeError(
                f"{self._what}: a lazy string is another text in each language. Pass str() of it."
            )
        if isinstance(value, type):
            raise TypeError(
                f"{self._what}: {value!r} is not found by its name, which another class may have"
                " too. Define it at module level, or pass key=, a function of the same arguments."
            )
        raise TypeError(
            f"{self._what}: a {type(value).__name__} cannot be made into a cache key"
            f" ({value!r:.80}). Pass key=, a function of the same arguments that returns what can:"
            " strings, numbers, dates, UUIDs, enums, model instances, tuples of these."
        )


class _NoTextError(Exception):
    pass


def _moment(base: Any, value: dt.datetime | dt.time) -> str:
    """With the zone, not only its offset: the same instant shows another time in another zone."""
    zone = value.tzinfo
    if zone is None:
        name = "naive"
    elif type(zone) is dt.timezone:
        name = f"offset {zone.utcoffset(None)} {zone.tzname(None)}"
    elif type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        name = f"zone {zone.key}"
    else:
        raise _NoTextError
    plain = base.isoformat(base.replace(value, tzinfo=None, fold=0))
    return f"{plain} {value.fold} {name}"


def _is_only(base: type, value: object) -> bool:
    """Whether an instance of a subclass has nothing else."""
    kinds = type(value).__mro__
    slots = [vars(kind).get("__slots__") for kind in kinds[: kinds.index(base)]]
    return not any(slots) and not getattr(value, "__dict__", None)


def _part(kind: str, text: str) -> str:
    return f"{len(kind)}:{kind}{len(text)}:{text}"
