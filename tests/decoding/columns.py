"""Primary keys as the catalogs have them, for decoders that are fed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_pgnudge.decoding import KeyColumn

if TYPE_CHECKING:
    from django_pgnudge.decoding import PrimaryKeys

TYPES = {
    "bool": (16, "boolean"),
    "bytea": (17, "bytea"),
    "int8": (20, "bigint"),
    "int4": (23, "integer"),
    "text": (25, "text"),
    "oid": (26, "oid"),
    "numeric": (1700, "numeric"),
    "uuid": (2950, "uuid"),
}


def column(name: str, type_name: str) -> KeyColumn:
    oid, printed = TYPES[type_name]
    return KeyColumn(name, type_name, printed=printed, own_type=oid)


def domain(name: str, type_name: str) -> KeyColumn:
    """The same type by way of a domain."""
    return column(name, type_name)._replace(printed="public.domain", own_type=90_000)


KEYS: PrimaryKeys = {
    "public.t": [column("id", "int4")],
    "public.pair": [column("b", "text"), column("a", "int8")],
    "public.flag": [column("on", "bool")],
    "public.u": [column("id", "uuid")],
    "public.n": [column("id", "numeric")],
    "public.b": [column("id", "bytea")],
    "public.none": [],
}
