"""How keys stand in a store: what a key function puts around them, and which of them are sessions.

Sessions may have an alias of their own and yet stand among the keys of another, since any number of
names lead to one store. So where sessions live is not compared: stored keys that begin as those of
sessions do are spared in every store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.conf import settings
from django.core.cache import caches

from django_pgnudge.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.cache.backends.base import BaseCache

_KEYS: Final = ("pgnudge", "q:2*[x]", "long-" * 80)
_LONGEST: Final = 500

_SESSIONS: Final = ("pgnudgeprobe0", "pgnudgeprobe1")


class Layout(NamedTuple):
    """What the key function puts around a key of one version: ``head + key + tail``."""

    head: str
    tail: str


class Sessions(NamedTuple):
    """Where the session engine keeps sessions: ``head`` is how their stored keys begin, None if its
    key function rewrites keys; ``examples`` are two of them."""

    alias: str
    cache: BaseCache
    head: str | None
    examples: tuple[str, ...]

    def may_be_in(self, layout: Layout) -> bool:
        """Whether stored keys of sessions may be among the keys of that layout."""
        if self.head is None:
            return any(
                key.startswith(layout.head) and key.endswith(layout.tail) for key in self.examples
            )
        return self.head.startswith(layout.head) or layout.head.startswith(self.head)

    def can_be_spared_in(self, layout: Layout) -> bool:
        """Whether some keys of that layout are not sessions for certain."""
        return self.head is not None and not layout.head.startswith(self.head)


def find_layout(alias: str, cache: BaseCache, version: int | None) -> Layout:
    """How a cache's key function wraps keys of ``version``, found by trying it.

    Raises UnsupportedError for a key function that hashes or otherwise rewrites keys: no prefix can
    be told from it.
    """
    make_key: Callable[..., str] = cache.make_key
    layouts: set[tuple[str, str]] = set()
    for probe in _KEYS:
        # A prefix may hold any text, that of a probe too.
        while str(make_key(probe, version=version)).count(probe) > 1 and len(probe) < _LONGEST:
            probe += "x"  # noqa: PLW2901
        head, found, tail = str(make_key(probe, version=version)).partition(probe)
        if not found:
            break
        layouts.add((head, tail))
    else:
        if len(layouts) == 1:
            return Layout(*layouts.pop())
    msg = (
        f'CACHES["{alias}"]["KEY_FUNCTION"] rewrites keys, so neither patterns nor whole '
        "versions can be deleted: use a key function that only adds a prefix, name fixed "
        'keys in the rules, or set PGNUDGE["RESYNC"] to "keys" or "clear".'
    )
    raise UnsupportedError(msg)


def find_sessions() -> Sessions | None:
    """Ask the session engine which keys it uses in which cache; None if it uses none."""
    try:
        engine: Any = import_module(settings.SESSION_ENGINE)
        probes = [engine.SessionStore(key) for key in _SESSIONS]
        cache: Any = getattr(probes[0], "_cache", None)
        keys = [str(getattr(probe, "cache_key", "")) for probe in probes]
    except Exception:
        # An engine or a cache that cannot be used holds no sessions.
        return None
    if cache is None or not all(keys):
        return None
    stored = tuple(str(cache.make_key(key)) for key in keys)
    heads = {key.partition(probe)[0] for key, probe in zip(stored, _SESSIONS, strict=True)}
    is_told = len(heads) == 1 and all(
        probe in key for key, probe in zip(stored, _SESSIONS, strict=True)
    )
    return Sessions(_alias_of(cache), cache, heads.pop() if is_told else None, stored)


def _alias_of(cache: BaseCache) -> str:
    for alias in settings.CACHES:
        if caches[alias] is cache:
            return alias
    return str(settings.SESSION_CACHE_ALIAS)
