"""A model's primary key as an event has it: the other way round from ``Registry.pk_values``.

Integers, booleans, and for every other type the text PostgreSQL prints. Types whose text is not
certain are refused, since a row named otherwise than the daemon names it would never be nudged.
"""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.db.models import (
    BooleanField,
    CharField,
    DateField,
    DateTimeField,
    DecimalField,
    Field,
    IntegerField,
    TextField,
    UUIDField,
)

from django_pgnudge.errors import ConfigError

if TYPE_CHECKING:
    from django_pgnudge.events import KeyValue

__all__ = ["key_value"]

_CERTAIN: Final = (BooleanField, IntegerField, UUIDField, DecimalField, DateField)


def key_value(field: Field[Any, Any], value: object) -> KeyValue:
    """One column of a row's key. Raises ConfigError for what cannot be said with certainty."""
    field = _target(field)
    try:
        python = field.to_python(value)
    except (ValidationError, TypeError, ValueError) as error:
        raise ConfigError(
            f"nudged.row: {value!r} is no value of {field}: {error}. Pass a primary key of it."
        ) from error
    if python is None:
        raise ConfigError(f"nudged.row: None is no primary key of {field.model._meta.label}.")
    if _is_certain(field):
        written = _written(field, python)
        if written is not None:
            return written
    raise ConfigError(
        f"nudged.row: {field} is a {type(field).__name__}, and how PostgreSQL writes {value!r} as"
        " a key is not certain. Depend on the whole table instead."
    )


def _written(field: Field[Any, Any], python: Any) -> KeyValue | None:
    match python:
        case bool():
            return python
        case int():
            return int(python)
        case uuid.UUID():
            return str(python)
        case Decimal() if python.is_finite():
            return _numeric(field, python)
        case dt.datetime():
            return None
        case dt.date():
            return python.isoformat()
        case str():
            return str(python)
    return None


def _numeric(field: Field[Any, Any], number: Decimal) -> str | None:
    """``numeric(p, s)`` always prints s decimals, and has no negative zero."""
    places = getattr(field, "decimal_places", None)
    if places is None:
        return None
    exact = number.quantize(Decimal(1).scaleb(-places))
    return None if exact != number else format(abs(exact) if exact == 0 else exact, "f")


def _is_certain(field: Field[Any, Any]) -> bool:
    """Whether the column has the type Django gives the field: a subclass may choose another."""
    if type(field).db_type is not Field.db_type or isinstance(field, DateTimeField):
        return False
    if isinstance(field, CharField | TextField):
        # Under a collation of its own, two texts may be one key.
        return field.db_collation is None and field.get_internal_type() in {
            "CharField",
            "TextField",
            "SlugField",
        }
    return isinstance(field, _CERTAIN)


def _target(field: Field[Any, Any]) -> Field[Any, Any]:
    while field.remote_field is not None:
        field = getattr(field, "target_field")  # noqa: B009 - ForeignKey's, unknown to Field
    return field
