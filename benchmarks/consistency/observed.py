"""The values of `targets` without a dependency named, read in ways that no SQL text shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import connection, transaction

from benchmarks.consistency.records import Seen
from benchmarks.consistency.site.models import ROWS
from benchmarks.consistency.targets import Target, get_nudged, nudged_targets

if TYPE_CHECKING:
    from collections.abc import Callable

READ: Final = "read_rows"

MAKE: Final = (
    "".join(
        f"CREATE VIEW deep_{table} AS SELECT * FROM {table};"
        f" CREATE VIEW seen_{table} AS SELECT * FROM deep_{table};"
        for table in (*ROWS, "sale")
        if "." not in table
    )
    + f"""
CREATE FUNCTION {READ}(query text) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
DECLARE found json;
BEGIN
    EXECUTE 'SELECT coalesce(json_agg(row_to_json(q)), ''[]'') FROM (' || query || ') q (a, b, c)'
        INTO found;
    RETURN found;
END $$;
"""
)
"""Views over views, and a function that hides which tables it reads.

It is VOLATILE, so that what it reads has a snapshot of its own, taken after its locks. A STABLE one
would read with the snapshot of before it waited for a partition to be detached: a state that never
was.
"""

WAYS: Final = ("table", "view", "function", "transaction", "inside")


@dataclass(frozen=True)
class Observed:
    """A target, and the way it is read."""

    inner: Target
    way: str

    @property
    def key(self) -> str:
        return f"observed:{self.way}:{self.inner.key}"

    @property
    def kind(self) -> str:
        return f"observed {self.way}"

    def compute(self) -> list[Seen]:
        if self.way == "function":
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {READ}(%s)", [self.inner.sql])
                ((found,),) = cursor.fetchall()
            rows = json.loads(found) if isinstance(found, str) else found
            return [Seen(*row.values()) for row in rows]
        if self.way == "transaction":
            with transaction.atomic():
                return self.inner.compute()
        if self.way == "inside":
            value, _ = Observed(self.inner, "table").get(self.inner.compute)
            return [Seen(*each) for each in value]
        if self.way == "view":
            return self.inner._replace(sql=_through_views(self.inner.sql)).compute()
        return self.inner.compute()

    def get(self, compute: Callable[[], Any]) -> tuple[Any, bool]:
        return get_nudged(self.key, None, compute, self.inner.cache)


def _through_views(sql: str) -> str:
    for table in (*ROWS, "sale"):
        if "." not in table:
            sql = sql.replace(f"FROM {table} ", f"FROM seen_{table} ")
    return sql


def everything() -> list[Observed]:
    """Those of whole tables, each in every way: what a row is read by is its table."""
    found = [target for target in nudged_targets() if target.kind != "row"]
    return [Observed(target, way) for target in found for way in WAYS]
