"""Cache invalidation for Django, driven by PostgreSQL's write-ahead log.

The path of a byte, hop by hop: `feed.connection` reads it from the socket. `wire` cuts the stream
into messages and speaks the protocol. `decoding` reads an output plugin's messages.
`feed.coalescer` merges changes per table. `feed.visibility` holds them until a new snapshot sees
them. `feed.walfeed` yields a Batch or a Resync. The `daemon` takes it from there: `registry` finds
the models of a table, `rules` finds the keys that a change deletes, `caches` deletes them, and
`signals` tells receivers.

`reader` reads and stores nudged values. They rely on none of this, only on the daemon's lease.
`pages` does the same for pages and fragments.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, PgNudgeError, ServerError
from .events import Batch, Event, FeedItem, Resync

if TYPE_CHECKING:
    from .emitting import aemit, emit
    from .feed import TLS, WalFeed
    from .names import fragment, own, page, site
    from .pages.conditional import nudged_condition
    from .pages.marks import never_nudged, nudged_site
    from .pages.page import nudged_page
    from .reader.decorator import nudged
    from .reader.settled import asettled, settled
    from .rules.registration import invalidates

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
    "aemit",
    "asettled",
    "emit",
    "fragment",
    "invalidates",
    "never_nudged",
    "nudged",
    "nudged_condition",
    "nudged_page",
    "nudged_site",
    "own",
    "page",
    "settled",
    "site",
]

# Imported on first use: importing the package needs no settings, and a web process needs no feed.
_LAZY = {
    "TLS": "django_pgnudge.feed",
    "WalFeed": "django_pgnudge.feed",
    "aemit": "django_pgnudge.emitting",
    "asettled": "django_pgnudge.reader.settled",
    "emit": "django_pgnudge.emitting",
    "fragment": "django_pgnudge.names",
    "invalidates": "django_pgnudge.rules.registration",
    "never_nudged": "django_pgnudge.pages.marks",
    "nudged": "django_pgnudge.reader.decorator",
    "nudged_condition": "django_pgnudge.pages.conditional",
    "nudged_page": "django_pgnudge.pages.page",
    "nudged_site": "django_pgnudge.pages.marks",
    "own": "django_pgnudge.names",
    "page": "django_pgnudge.names",
    "settled": "django_pgnudge.reader.settled",
    "site": "django_pgnudge.names",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
