"""The only asyncio below the daemon: a live stream made from the wire and the decoders.

`connection` moves bytes, `stream` is one connection's life, `walfeed` all of them one after the
other; `coalescer` and `visibility` are pure logic. Nothing here knows Django.
"""

from __future__ import annotations

from .tls import TLS
from .walfeed import WalFeed

__all__ = ["TLS", "WalFeed"]
