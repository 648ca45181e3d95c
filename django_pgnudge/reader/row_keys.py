"""A model's primary key as an event has it: the reverse of ``Registry.pk_values``.

The type of the column in the database decides, not the class of the field: a row with another name
than the stream gives it would never be nudged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import Field

from django_pgnudge.decoding import KeyColumn, write_value
from django_pgnudge.errors import ConfigError

if TYPE_CHECKING:
    from django_pgnudge.events import KeyValue


def as_key_value(
    field: Field[Any, Any], value: object, column: KeyColumn, using: str
) -> KeyValue | None:
    """One column of a row's key; None if it is not certain how PostgreSQL writes it.

    Raises ConfigError for what the field does not accept.
    """
    field = _target(field)
    try:
        python = field.to_python(value)
        # A field may send the database another value than an instance has.
        sent = field.get_db_prep_value(python, connections[using], prepared=False)
    except (ValidationError, TypeError, ValueError) as error:
        raise ConfigError(
            f"nudged.row: {value!r} is no value of {field}: {error}. Pass a primary key of it."
        ) from error
    if python is None:
        raise ConfigError(f"nudged.row: None is no primary key of {field.model._meta.label}.")
    return write_value(column, sent)


_TYPES: Final = {
    **dict.fromkeys(("SmallAutoField", "SmallIntegerField", "PositiveSmallIntegerField"), "int2"),
    **dict.fromkeys(("AutoField", "IntegerField", "PositiveIntegerField"), "int4"),
    **dict.fromkeys(("BigAutoField", "BigIntegerField", "PositiveBigIntegerField"), "int8"),
    **dict.fromkeys(("CharField", "SlugField"), "varchar"),
    "BooleanField": "bool",
    "DateField": "date",
    "DateTimeField": "timestamptz",
    "DecimalField": "numeric",
    "TextField": "text",
    "UUIDField": "uuid",
}


def assumed_column(field: Field[Any, Any]) -> KeyColumn:
    """The column that Django makes of a field, if there is no database to ask."""
    name, field = str(field.column), _target(field)
    made_otherwise = type(field).db_type is not Field.db_type
    type_name = "" if made_otherwise else _TYPES.get(field.get_internal_type(), "")
    digits, places = getattr(field, "max_digits", None), getattr(field, "decimal_places", None)
    typmod = -1 if digits is None or places is None else (digits << 16 | places) + 4
    return KeyColumn(name, type_name, typmod, getattr(field, "db_collation", None) is None)


def _target(field: Field[Any, Any]) -> Field[Any, Any]:
    while field.remote_field is not None:
        field = getattr(field, "target_field")  # noqa: B009 - ForeignKey's, unknown to Field
    return field
