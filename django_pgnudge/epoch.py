"""Where PostgreSQL's clock starts: what the wire and the decoders both count from."""

from __future__ import annotations

from typing import Final

POSTGRES_EPOCH: Final = 946_684_800
"""2000-01-01 00:00 UTC in Unix seconds: the zero of timestamps on the wire."""
