"""A function's arguments as a cache key: equal arguments, equal keys, in every process.

What may stand in a key: None, booleans, numbers, strings, bytes, dates, times and durations,
UUIDs, decimals, members of enums, classes, saved model instances (by label and primary key), and
tuples, lists and frozensets of these. Types are kept apart: ``1``, ``True`` and ``"1"`` are three.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import inspect
import uuid
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Model

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bind", "digest", "instances_in", "qualified_name"]

_TEXTUAL: Final[tuple[tuple[type, Callable[[Any], str]], ...]] = (
    (bool, str),
    (int, str),
    (float, repr),
    (str, str),
    (bytes, bytes.hex),
    (Decimal, str),
    (uuid.UUID, str),
    (dt.datetime, dt.datetime.isoformat),
    (dt.date, dt.date.isoformat),
    (dt.time, dt.time.isoformat),
    (dt.timedelta, repr),
)


def digest(values: Iterable[object], what: str) -> str:
    """A key of these values; ``what`` takes them, for the TypeError where one cannot stand."""
    text = "".join(_encode(value, what) for value in values)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def bind(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[object]:
    """The arguments as one list, the same however they were passed."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    values: list[object] = []
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            values.append(tuple(sorted(value.items())))
        else:
            values.append(value)
    return values


def instances_in(values: Iterable[object]) -> Iterator[Model]:
    """The model instances among the values, those inside containers too."""
    for value in values:
        if isinstance(value, Model):
            yield value
        elif isinstance(value, tuple | list | frozenset):
            yield from instances_in(value)


def qualified_name(function: Callable[..., Any]) -> str:
    """Module and qualified name."""
    return f"{function.__module__}.{function.__qualname__}"


def _encode(value: object, what: str) -> str:
    """Injective: each part says its type and its length."""
    if value is None:
        return _part("None", "")
    if isinstance(value, enum.Enum):
        return _part(f"enum {qualified_name(type(value))}", value.name)
    if isinstance(value, Model):
        if value.pk is None:
            raise TypeError(f"{what}: {value!r} is not saved, and has no primary key to be named.")
        pk = value.pk if isinstance(value.pk, tuple) else (value.pk,)
        inside = "".join(_encode(each, what) for each in pk)
        return _part(f"model {_concrete(value)._meta.label}", inside)
    if isinstance(value, type):
        return _part("class", qualified_name(value))
    for kind, write in _TEXTUAL:
        if isinstance(value, kind):
            return _part(kind.__name__, write(value))
    if isinstance(value, tuple | list):
        kind_name = "tuple" if isinstance(value, tuple) else "list"
        return _part(kind_name, "".join(_encode(each, what) for each in value))
    if isinstance(value, frozenset):
        return _part("frozenset", "".join(sorted(_encode(each, what) for each in value)))
    raise TypeError(
        f"{what}: a {type(value).__name__} cannot be made into a cache key ({value!r:.80})."
        " Pass key=, a function of the same arguments that returns what can: strings, numbers,"
        " dates, UUIDs, enums, model instances, tuples of these."
    )


def _concrete(instance: Model) -> type[Model]:
    """A proxy's rows are those of its model."""
    return instance._meta.concrete_model or type(instance)


def _part(kind: str, text: str) -> str:
    return f"{kind}:{len(text)}:{text};"
