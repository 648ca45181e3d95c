"""Names that mean many tables: ``*.shop_product``, ``stock.*``."""

from __future__ import annotations


def is_starred(name: str) -> bool:
    """Whether a name has ``*`` for the schema or the table."""
    schema, dot, table = name.partition(".")
    return bool(dot) and "*" in (schema, table)


def is_meant(name: str, schema: str, table: str) -> bool:
    """Whether ``name``, which may have ``*`` for schema, table or both, means this table."""
    wanted, _, named = name.partition(".")
    return wanted in ("*", schema) and named in ("*", table)
