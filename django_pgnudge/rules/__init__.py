"""From a change to the cache keys it kills: the hop between the registry and the caches.

`keyspecs` reads one key as it is written, `registration` collects what ``cachekeys.py`` modules
register, `parsing` reads both into rules or problems, and `ruleset` applies them. No I/O.
"""

from __future__ import annotations

from django_pgnudge.rules.parsing import CacheRef, Rule, read_rules
from django_pgnudge.rules.ruleset import Kills, RuleSet, load_rules

__all__ = ["CacheRef", "Kills", "Rule", "RuleSet", "load_rules", "read_rules"]
