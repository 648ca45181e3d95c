"""Finds where a Resync would clear more than cached values: locks, rate limits, one-time codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache

from django_pgnudge.checks.ids import message
from django_pgnudge.conf import conf

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from django_pgnudge.rules import CacheRef

_COMMON = "default"
"""The alias that code without an alias uses: rate limits, locks, one-time codes."""

_PROBE = "pgnudge"


def check_sharing(
    refs: Iterable[CacheRef], same_place: Callable[[str, str], bool]
) -> Iterator[CheckMessage]:
    """Warn if a Resync clears a rule's version together with other keys of the default cache."""
    if not conf.is_usable("RESYNC") or conf.RESYNC not in ("versions", "clear"):
        return
    for alias, version in sorted({(ref.alias, ref.version) for ref in refs}, key=str):
        if isinstance(caches[alias], DummyCache) or not _is_cleared(alias, version, same_place):
            continue
        number = caches[alias].version if version is None else version
        what = "the whole cache" if conf.RESYNC == "clear" else "that version of that cache"
        yield message(
            "W008",
            f"Rules name the cache {alias!r}, version {number}, and a Resync clears {what}."
            " Code that names no cache keeps its keys there too, so rate limits, locks and one-time"
            " codes are lost.",
            "Give invalidated values an alias of CACHES with a KEY_PREFIX of its own, or a version"
            ' of their own, and name it in the rules; or set PGNUDGE["RESYNC"] to "keys".',
        )


def _is_cleared(alias: str, version: int | None, same_place: Callable[[str, str], bool]) -> bool:
    """Whether clearing this version of this cache deletes keys of the default cache."""
    if conf.RESYNC == "versions":
        mine = str(caches[alias].make_key(_PROBE, version=version))
        if mine != str(caches[_COMMON].make_key(_PROBE)):
            return False
    return alias == _COMMON or same_place(alias, _COMMON)
