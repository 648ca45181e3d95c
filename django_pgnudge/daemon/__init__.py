"""The composition root: where the feed and Django meet.

`core` reads the feed, `asking` turns changes into `work`, `workers` do it in the caches,
`publisher` tells receivers, `resync` knows what a gap clears, `lookups` finds out what unknown
tables are, `connection` derives the feed's connection from ``DATABASES``, and `mistakes` says how
to mend what no waiting will.
"""

from __future__ import annotations

from django_pgnudge.daemon.core import Daemon

__all__ = ["Daemon"]
