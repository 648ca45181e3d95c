"""Items with versions, as a row holds them and a page shows them.

Every text or price that is written during a run says which item it is and which version: a title
`Rye bread ~p17.3~` is version 3 of page 17. Prices have no room for words, so theirs is a number:
`£170,003.00` is version 3 of the price of product 17.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["VERSIONS", "Mark", "in_page", "price", "text"]

Mark = tuple[str, int, int]
"""Kind, number and version of an item."""

VERSIONS: Final = 10_000
"""Fewer versions than these has a price."""

_TEXT: Final = re.compile(rb"~([a-z])(\d+)\.(\d+)~")
_PRICE: Final = re.compile(rb"\xc2\xa3([\d,]{5,})\.00")


def text(kind: str, number: int, version: int) -> str:
    """What is written behind the words."""
    return f"~{kind}{number}.{version}~"


def price(number: int, version: int) -> int:
    return number * VERSIONS + version


def in_page(body: bytes) -> list[Mark]:
    """Every mark that a page shows, once."""
    found = {(kind.decode(), int(number), int(version))
             for kind, number, version in _TEXT.findall(body)}  # fmt: skip
    for amount in _PRICE.findall(body):
        found.add(("s", *divmod(int(amount.replace(b",", b"")), VERSIONS)))
    return sorted(found)
