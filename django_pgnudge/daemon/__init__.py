"""The composition root: where the feed and Django meet.

`core` reads the feed, and `dispatch` hands on what it brings. `catalog_refresh` looks up tables
that are unknown. `rule_callables` turns changes into an `invalidation`, which each `cache_worker`
performs in its cache. `receivers` sends the signals. `resync` knows what a gap clears. `proof` and
`lease` let readers trust the cache. `feed_connection` derives the feed's connection from
``DATABASES``; `connect_hints` says how to mend what does not pass by itself.
"""

from __future__ import annotations

from django_pgnudge.daemon.core import Daemon

__all__ = ["Daemon"]
