"""How many rows a second: from COMMIT to the last row accounted for.

Every contender follows the same database alone, and sees the same rows, written anew for each. One
transaction is timed from the return of its COMMIT. Many small ones take longer to write than to
read: the server's walsender is stopped while they are written, and timed from its going on, so
that everybody begins with the whole backlog and nothing in a buffer.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.speed.clients import Job
from benchmarks.speed.peers.followers import (
    PG_RECVLOGICAL,
    Source,
    contenders,
    following,
    walsender,
)
from benchmarks.speed.report import OURS, PGNUDGE
from benchmarks.speed.rows import (
    DATABASE,
    PUBLICATION,
    SENTINEL,
    SMALL,
    TABLES,
    empty,
    running_server,
    write_one,
    write_small,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

    from servers.postgres import Postgres

    from benchmarks.speed.command import Run

__all__ = ["add_arguments", "measure"]

PATIENCE: Final = 300.0
RATE: Final = "rows/s"
CPU: Final = "µs CPU per row"
SHAPES: Final = {"one": "one transaction", "small": "many small ones"}
QUICK: Final = {
    ("narrow", "one", "pgoutput"),
    ("wide", "one", "wal2json"),
    ("narrow", "small", "test_decoding"),
}
"""What `--quick` runs of all cases."""


class Case(NamedTuple):
    """What is written, and how it is decoded."""

    table: str
    shape: str
    plugin: str

    def __str__(self) -> str:
        return f"{self.table}, {SHAPES[self.shape]}, {self.plugin}"


def add_arguments(parser: ArgumentParser) -> None:
    """Those of its own."""
    parser.add_argument("--rows", type=int, help="how many (default 500,000)")
    parser.add_argument("--plugin", action="append", help="only this one; may be repeated")
    parser.add_argument("--table", action="append", choices=TABLES, help="only this one")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one")
    parser.add_argument("--contender", action="append", help="only those that begin so")
    parser.add_argument("--unix", action="store_true", help="over a Unix socket, not TCP")


def measure(run: Run) -> None:
    """Fill the report."""
    options = run.options
    rows = options.rows or (20_000 if run.quick else 500_000)
    wanted = tuple(options.contender or [""])
    with running_server(options.server) as server:
        run.report.facts |= {
            "server": str(server.installation),
            "rows": f"{rows:,}; {SMALL} in each of many small transactions",
            "link": "Unix socket" if options.unix else "TCP over loopback",
        }
        run.report.notes.append(
            "CPU is that of the client's process, user and system, without start and import."
        )
        cases = list(_cases(run, server))
        for each in run.rounds(5):
            for case in cases:
                source = Source(server, DATABASE, case.plugin, PUBLICATION, options.unix)
                chosen = [name for name in contenders(source) if name.startswith(wanted)]
                for contender in run.in_turn(chosen, each):
                    _one(run, contender, source, case, rows)
    for case in cases:
        _aims(run, case)


def _cases(run: Run, server: Postgres) -> Iterator[Case]:
    options = run.options
    everything = not (options.table or options.shape or options.plugin)
    for table, shape, plugin in itertools.product(
        options.table or TABLES, options.shape or SHAPES, options.plugin or server.plugins
    ):
        if not run.quick or not everything or (table, shape, plugin) in QUICK:
            yield Case(table, shape, plugin)


def _one(run: Run, contender: str, source: Source, case: Case, rows: int) -> None:
    """One contender's turn."""
    server = source.server
    empty(server, case.table)
    job = Job(f"public.{case.table}", f"public.{SENTINEL}", rows)
    with following(contender, source, job) as client:
        if case.shape == "one":
            began, _ = write_one(server, case.table, rows)
        else:
            sender = walsender(server)
            assert sender is not None
            began = write_small(server, case.table, rows, sender)
        result = client.result(PATIENCE)
    seconds = result.last - began
    run.report.add(
        str(case),
        contender,
        **{RATE: rows / seconds, CPU: result.cpu / rows * 1e6},
    )
    run.say(f"{case}: {contender}: {rows / seconds:,.0f} rows/s")


def _aims(run: Run, case: Case) -> None:
    report, name = run.report, str(case)
    narrow = case.table == "narrow"

    def both(over: str) -> bool:
        return all(report.has(name, RATE, each) for each in (OURS, over))

    if both(PG_RECVLOGICAL):
        ratio = report.ratio(name, RATE, PG_RECVLOGICAL)
        report.at_least(f"{name}: rows/s of pg_recvlogical", ratio, 1.2 if narrow else 1.0, "x")
    if both(PGNUDGE):
        if narrow:
            ratio = report.ratio(name, RATE, PGNUDGE)
            report.at_least(f"{name}: rows/s of {PGNUDGE}", ratio, 6, "x")
        ratio = report.ratio(name, CPU, PGNUDGE)
        report.at_most(f"{name}: CPU per row of {PGNUDGE}", ratio, 1 / 6, "x")
    if narrow and report.has(name, RATE, OURS):
        report.at_most(f"{name}: CPU per row", report.median(name, CPU), 2, "µs")
