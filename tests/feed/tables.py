"""Tables for tests of a feed."""

from __future__ import annotations

PLAIN = "CREATE TABLE t (id serial PRIMARY KEY, name text)"
# A name for every trap: quotation marks, dots, commas, colons, spaces, a newline, other scripts,
# a backslash, what looks like a row, and what a wildcard or an escape could be mistaken for.
AWKWARD = [
    "Mixed Case",
    'with "quotes"',
    "dotted.name",
    "comma, name",
    "colon: INSERT: id[integer]:1",
    "line\nbreak",
    "Ünïcödé таблица 表",
    "back\\slash",
    "apostro'phe",
    "star*",
    "table public.t",
    '","columns":[{',
]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
