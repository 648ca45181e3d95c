"""What an application's own nudge may be.

``pg_logical_emit_message`` is open to every role unless somebody revoked it, and the log does not
say who wrote a message. So a message must not be able to do what only a change of a table may do:
it never has a table's name, and there is a bound to its length and to how many are pending.
"""

from __future__ import annotations

import re
from typing import Final

from ..events import ANY_NUDGE

MAX_LENGTH: Final = 200
"""Characters of the longest own nudge."""

SETTLE_PREFIX: Final = "pgnudge:settle:"
"""How the payload of a request to settle begins; 32 hexadecimal digits follow."""

_REQUEST = re.compile(r"pgnudge:settle:[0-9a-f]{32}")


def is_nudge(payload: str) -> bool:
    """Whether a payload is an own nudge's; every table's has a dot."""
    return "." not in payload


def objection(payload: str) -> str:
    """Why a text cannot be the payload of a message of ours; empty if it can."""
    if not payload:
        return "it is empty"
    if not is_nudge(payload):
        return "it has a dot, as only the name of a table has"
    if len(payload) > MAX_LENGTH:
        return f"it has {len(payload)} characters, and at most {MAX_LENGTH} are taken"
    reserved = payload == ANY_NUDGE or payload.startswith("pgnudge:")
    if reserved and not _REQUEST.fullmatch(payload):
        return "the name is reserved"
    return ""
