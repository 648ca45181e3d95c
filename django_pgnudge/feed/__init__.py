"""The only asyncio below the daemon: a live stream made from the wire and the decoders.

`connection` moves bytes. `slot` makes a slot, `stream` is its life, `walfeed` is all streams one
after the other, and `mailbox` holds what its consumer takes. `coalescer` and `visibility` are pure
logic. Nothing here knows Django.
"""

from __future__ import annotations

from .tls import TLS
from .walfeed import WalFeed

__all__ = ["TLS", "WalFeed"]
