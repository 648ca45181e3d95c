"""Positions in the write-ahead log, written ``X/Y`` as PostgreSQL writes them."""

from __future__ import annotations

import re
from typing import Self

from ..errors import ProtocolError

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)


class LSN(int):
    """A byte position in the write-ahead log, 0 to 2**64 - 1; as an int it can be compared."""

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Self:
        if not 0 <= value < 1 << 64:
            raise ProtocolError(f"LSN {value} is not a 64-bit position")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> LSN:
        """Read ``X/Y``, two hexadecimal numbers of 32 bits each."""
        match = _LSN.fullmatch(text)
        if match is None:
            raise ProtocolError(f"{text!r} is not an LSN of the form X/Y")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"LSN({str(self)!r})"
