"""The rules for the payload of an own nudge.

Every role may call ``pg_logical_emit_message`` unless it was revoked, and the write-ahead log does
not say who wrote a message. So a message must not look like a change of a table: its payload is
never a table's name. Its length and the number of pending nudges are limited.
"""

from __future__ import annotations

import re
from typing import Final

from ..events import ANY_NUDGE

MAX_LENGTH: Final = 200
"""The longest own nudge, in characters."""

SETTLE_PREFIX: Final = "pgnudge:settle:"
"""The beginning of a settle request's payload; 32 hexadecimal digits follow."""

_REQUEST = re.compile(r"pgnudge:settle:[0-9a-f]{32}")


def is_nudge(payload: str) -> bool:
    """Whether a payload is an own nudge; the payload of a table has a dot."""
    return "." not in payload


def objection(payload: str) -> str:
    """Why a text cannot be the payload of an own nudge or settle request; empty if it can."""
    if not payload:
        return "it is empty"
    if not is_nudge(payload):
        return "it has a dot, which only table names have"
    if len(payload) > MAX_LENGTH:
        return f"it has {len(payload)} characters, and at most {MAX_LENGTH} are allowed"
    reserved = payload == ANY_NUDGE or payload.startswith("pgnudge:")
    if reserved and not _REQUEST.fullmatch(payload):
        return "the name is reserved"
    return ""
