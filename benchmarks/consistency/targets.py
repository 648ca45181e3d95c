"""What is read: values of rows of one table or two, each by its key and its query."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import connection

from benchmarks.consistency.records import ABSENT, Seen
from benchmarks.consistency.site.models import LEAVING, ROWS, RULED, Canary, Sale
from benchmarks.consistency.site.settings import NUDGED_CACHE
from django_pgnudge import nudged

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT: Final = 3600


class Target(NamedTuple):
    """One value: its key, the kind it is counted under, and the query that computes it."""

    key: str
    kind: str
    sql: str
    depends_on: tuple[tuple[str, int | None], ...]
    cache: str = NUDGED_CACHE

    def compute(self) -> list[Seen]:
        with connection.cursor() as cursor:
            cursor.execute(self.sql)
            return [Seen(*row) for row in cursor.fetchall()]

    def get(self, compute: Callable[[], Any]) -> tuple[Any, bool]:
        """The `nudged` value, and whether it came without computing."""
        return get_nudged(self.key, dependencies(self), compute, self.cache)


def _row(table: str, row: int) -> str:
    if table in LEAVING:
        return _absent(table, row, row)
    return f"SELECT '{table}', id, version FROM {table} WHERE id = {row}"


def _absent(table: str, first: int, last: int) -> str:
    return (
        f"SELECT '{table}', g.id, coalesce(version, {ABSENT}) FROM {table}"
        f" RIGHT JOIN generate_series({first}, {last}) g (id) USING (id) ORDER BY 2"
    )


def row_target(table: str, row: int, cache: str = NUDGED_CACHE) -> Target:
    """One row of a table."""
    return Target(f"row:{table}:{row}", "row", _row(table, row), ((table, row),), cache)


def table_target(table: str) -> Target:
    """All rows of a table that are read."""
    read = ROWS[table][2]
    sql = f"SELECT '{table}', id, version FROM {table} WHERE id <= {read} ORDER BY id"
    if table in LEAVING:
        sql = _absent(table, 1, read)
    return Target(f"table:{table}", "table", sql, ((table, None),))


def targets() -> list[Target]:
    """Everything that has plain keys."""
    found = [table_target(table) for table in ROWS]
    found += [row_target(table, row) for table in RULED for row in range(1, ROWS[table][2] + 1)]
    sql = "SELECT 'sale', 0, coalesce(max(version), 0), count(*) FROM sale"
    found.append(Target("table:sale", "sale", sql, (("sale", None),)))
    return found


def nudged_targets() -> list[Target]:
    """What only `nudged` can do as well: rows of two tables in one value, and of any table."""
    found = targets()
    found += [
        row_target(table, row)
        for table in ROWS if table not in RULED for row in range(1, ROWS[table][2] + 1)
    ]  # fmt: skip
    found += [
        Target(
            f"pair:{row}",
            "pair",
            f"{_row('product', row)} UNION ALL {_row('price', row)}",
            (("product", row), ("price", row)),
        )
        for row in range(1, 9)
    ]
    return found


def get_nudged(
    key: str, depends_on: Any, compute: Callable[[], Any], cache: str = NUDGED_CACHE
) -> tuple[Any, bool]:
    """The value, and whether it came without computing."""
    computed = []

    def default() -> Any:
        computed.append(True)
        return compute()

    value = nudged.get_or_set(
        f"nudged:{key}", default, depends_on=depends_on, cache=cache, timeout=TIMEOUT
    )
    return value, not computed


@functools.cache
def dependencies(target: Target) -> list[Any]:
    models: dict[str, Any] = {table: model for table, (model, _, _) in ROWS.items()}
    models |= {"sale": Sale, "canary": Canary}
    return [
        models[table] if row is None else nudged.row(models[table], row)
        for table, row in target.depends_on
    ]


CANARY: Final = Target(
    "canary", "canary", "SELECT 'canary', id, version FROM canary", (("canary", 1),)
)
