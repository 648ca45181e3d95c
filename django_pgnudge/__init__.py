"""Cache invalidation for Django, driven by PostgreSQL's write-ahead log."""

from __future__ import annotations

from .errors import ConfigError, PgNudgeError, ServerError
from .events import Batch, Event, FeedItem, Resync
from .feed import TLS, WalFeed

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "Batch",
    "ConfigError",
    "Event",
    "FeedItem",
    "PgNudgeError",
    "Resync",
    "ServerError",
    "WalFeed",
    "__version__",
]
