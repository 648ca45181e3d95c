"""django-cacheops' cache: results in Redis, below the conditions on rows that end them.

``cacheops/tree.py`` reduces a query to conditions of equality for each of its tables, and
``cacheops/lua/cache_thing.lua`` adds the result's key to a set for each, such as
``conj:shop_product:category_id=3``. A row that is saved ends the conditions that hold for its old
or its new values (``invalidate_obj`` of both).

The log tells the primary key of a row, and the row as it is can be read. Its old values cannot, nor
those between two changes, and a row that has left a condition is found by these only. So for a row
that changed, one kind of condition is known not to hold: a primary key of other rows, and no more.
Those stay, and all other conditions of the table end.

``invalidate_model`` is not used. It asks for keys with ``KEYS``, which stops Redis, and a result
that is stored between its two steps is ended by nothing any more. ``invalidate_all`` is FLUSHDB,
and would take what others keep in the same database.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from cacheops.conf import Defaults
from cacheops.conf import settings as cacheops_settings
from cacheops.redis import redis_client
from cacheops.signals import cache_invalidated

from django_pgnudge.contrib.concerned_tables import ConcernedTables, all_models, db_tables
from django_pgnudge.third_party import Rows, Table, ThirdPartyCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from django_pgnudge.registry import Registry

SCAN: Final = 5000
CHUNK: Final = 200
"""Conditions in one call of the script, and keys in one command."""

# A result that is stored meanwhile comes either before, and ends, or behind, and has its condition.
# In the mode CACHEOPS_INSIDEOUT a condition is a string without which results are not served.
_END: Final = """
local ended = 0
for _, condition in ipairs(KEYS) do
  if redis.call('type', condition).ok == 'set' then
    local keys = redis.call('smembers', condition)
    for i = 1, #keys, 1000 do
      ended = ended + redis.call('unlink', unpack(keys, i, math.min(i + 999, #keys)))
    end
  end
  redis.call('unlink', condition)
end
return ended
"""

_RESULT: Final = re.compile(rb"(?:q|as|asp):[0-9a-f]{32}")

# How Lua and Python both write a value; past 14 digits Lua rounds.
_PLAIN: Final[dict[type, re.Pattern[str]]] = {
    int: re.compile(r"-?[0-9]{1,14}"),
    uuid.UUID: re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


class Cacheops(ThirdPartyCache):
    """What cacheops keeps in its Redis, under any prefix if ``CACHEOPS_PREFIX`` makes one."""

    name = "django_pgnudge.contrib.cacheops"
    wants_rows = True

    def __init__(self) -> None:
        self._tables = ConcernedTables()

    def invalidate(self, changes: Mapping[Table, Rows], registry: Registry) -> int:
        """Raises what the client of Redis raises."""
        concerned = self._tables.concerned(changes, registry)
        spared = {table: _others(table, rows) for table, rows in concerned.items()}
        ended = _end(
            key
            for key in _scan("conj:")
            if any(_concerns(remainder, spared) for remainder in _remainders(key))
        )
        _tell(concerned)
        return ended

    def invalidate_all(self, registry: Registry) -> int:
        """Raises what the client of Redis raises. Leaves what ``@cached`` and ``cache`` keep."""
        ended = _end(_scan("conj:"))
        # A result outlives its condition if Redis evicts that.
        for kind in ("q:", "as:", "asp:"):
            ended += _unlink(key for key in _scan(kind) if _is_result(key))
        _tell(db_tables())
        return ended

    def incarnation(self) -> str | None:
        return str(redis_client.info("server")["run_id"])


def _others(db_table: str, rows: Rows) -> Callable[[str], bool]:
    """Whether a condition is for a primary key, and no more, that none of these rows has."""
    # Conditions of joins have names of columns.
    names = {
        model._meta.pk.attname if model._meta.pk.attname == model._meta.pk.column else None
        for model in all_models()
        if model._meta.db_table == db_table and not model._meta.proxy
    }
    kinds = {type(value) for row in rows or () for value in row}
    if (
        not rows
        or None in names
        or len(names) != 1
        or len(kinds) != 1
        or any(len(row) != 1 for row in rows)
    ):
        return lambda condition: False
    plain = _PLAIN.get(kinds.pop())
    if plain is None:
        return lambda condition: False
    (name,), changed = names, {str(value) for (value,) in rows}

    def is_of_others(condition: str) -> bool:
        field, _, value = condition.partition("=")
        return field == name and plain.fullmatch(value) is not None and value not in changed

    return is_of_others


def _concerns(remainder: str, spared: Mapping[str, Callable[[str], bool]]) -> bool:
    """Whether ``table:condition`` may be a condition of a changed table. Both may have colons."""
    parts = remainder.split(":")
    for at in range(1, len(parts)):
        is_of_others = spared.get(":".join(parts[:at]))
        if is_of_others is not None and not is_of_others(":".join(parts[at:])):
            return True
    return False


def _remainders(key: bytes) -> Iterator[str]:
    """What may follow ``conj:`` in a key. Neither the prefix nor the rest is without it, maybe."""
    text = key.decode(errors="replace")
    at = text.find("conj:")
    while at >= 0:
        yield text[at + len("conj:") :]
        at = text.find("conj:", at + 1) if _has_prefix() else -1


def _has_prefix() -> bool:
    return cacheops_settings.CACHEOPS_PREFIX is not Defaults.CACHEOPS_PREFIX


def _scan(head: str) -> Iterator[bytes]:
    """The keys that begin so behind the prefix. The daemon serves no request, and so knows none."""
    client: Any = redis_client
    found: Iterator[bytes] = client.scan_iter(f"{'*' * _has_prefix()}{head}*", count=SCAN)
    return found


def _is_result(key: bytes) -> bool:
    match = _RESULT.search(key)
    return match is not None and match.end() == len(key) and (_has_prefix() or match.start() == 0)


def _end(conditions: Iterable[bytes]) -> int:
    script: Any = redis_client.register_script(_END)
    return sum(script(keys=chunk) for chunk in _chunks(conditions))


def _unlink(keys: Iterable[bytes]) -> int:
    return sum(redis_client.unlink(*chunk) for chunk in _chunks(keys))


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for key in keys:
        chunk.append(key)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _tell(tables: Iterable[str]) -> None:
    """Send cacheops' own signal, as ``invalidate_model`` does."""
    named = set(tables)
    for model in all_models():
        if model._meta.db_table in named and not model._meta.proxy:
            cache_invalidated.send_robust(sender=model, obj_dict=None)
