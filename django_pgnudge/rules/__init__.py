"""From a change to the cache keys to delete: the hop between the registry and the caches. No I/O.

`keyspecs` parses one key of a rule. `registration` collects the rules of ``cachekeys.py`` modules.
`parsing` turns these and the setting into rules or problems. `ruleset` finds the rules that a
change fires, `binding` says what one of them deletes, and `deletes` is what comes out.
"""

from __future__ import annotations

from django_pgnudge.rules.deletes import Deletes
from django_pgnudge.rules.parsing import CacheRef, Rule, read_rules
from django_pgnudge.rules.ruleset import RuleSet, load_rules

__all__ = ["CacheRef", "Deletes", "Rule", "RuleSet", "load_rules", "read_rules"]
