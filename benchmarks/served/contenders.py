"""The caches that a site could have, and what it writes in its settings for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.speed.report import OURS

__all__ = ["CACHALOT", "CACHE_PAGE", "CONTENDERS", "NAMED", "NO_CACHE", "Contender"]

NO_CACHE: Final = "no cache"
CACHE_PAGE: Final = "cache_page, 60 s"
CACHALOT: Final = "django-cachalot"
NAMED: Final = "nudged_page, tables named by hand"


@dataclass(frozen=True)
class Contender:
    """What a site adds to its settings; ``first`` and ``last`` are middleware."""

    name: str
    apps: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    has_daemon: bool = False

    @property
    def lines(self) -> int:
        """Of settings."""
        return len(self.apps) + len(self.first) + len(self.last) + len(self.more)


CONTENDERS: Final = {
    each.name: each
    for each in (
        Contender(NO_CACHE),
        Contender(
            CACHE_PAGE,
            first=("django.middleware.cache.UpdateCacheMiddleware",),
            last=("django.middleware.cache.FetchFromCacheMiddleware",),
            more={"CACHE_MIDDLEWARE_SECONDS": 60},
        ),
        Contender(CACHALOT, apps=("cachalot",)),
        Contender(
            OURS,
            apps=("django_pgnudge",),
            first=("django_pgnudge.middleware.NudgedSiteMiddleware",),
            has_daemon=True,
        ),
    )
}
