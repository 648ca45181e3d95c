"""The zero of PostgreSQL's timestamps, which `wire` and `decoding` share."""

from __future__ import annotations

from typing import Final

POSTGRES_EPOCH: Final = 946_684_800
"""2000-01-01 00:00 UTC in Unix seconds."""
