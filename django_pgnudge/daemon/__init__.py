"""The composition root: where the feed and Django meet.

`core` reads the feed, `tables` remembers what a table means and `lookups` finds out what unknown
ones are, `asking` turns changes into `work`, `workers` do it in the caches, the short way being
`express`, `publisher` tells receivers, `resync` knows what a gap clears, `connection` derives the
feed's connection from ``DATABASES``, and `mistakes` says how to mend what no waiting will.
"""

from __future__ import annotations

from django_pgnudge.daemon.core import Daemon

__all__ = ["Daemon"]
