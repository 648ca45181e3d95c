"""A transaction of a million rows, and right after it a commit of one row to another table.

How long the big one takes to be heard of, and how long the small one waits behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.speed.clients import Job
from benchmarks.speed.peers.followers import (
    OURS_WITHOUT_KEYS,
    PG_RECVLOGICAL,
    Source,
    contenders,
    following,
)
from benchmarks.speed.report import OURS
from benchmarks.speed.rows import (
    DATABASE,
    PUBLICATION,
    SENTINEL,
    TABLES,
    empty,
    running_server,
    write_one,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from benchmarks.speed.command import Run

__all__ = ["add_arguments", "measure"]

PATIENCE: Final = 300.0

FIRST_BYTE: Final = "COMMIT to first byte, ms"
FROM_BYTE: Final = "first byte to first nudge, ms"
NUDGE: Final = "COMMIT to first nudge, ms"
SMALL: Final = "small COMMIT to its nudge, ms"


def add_arguments(parser: ArgumentParser) -> None:
    """Those of its own."""
    parser.add_argument("--rows", type=int, help="how many (default 1,000,000)")
    parser.add_argument("--plugin", action="append", help="only this one; may be repeated")
    parser.add_argument("--table", choices=TABLES, default="narrow")
    parser.add_argument("--contender", action="append", help="only those that begin so")


def measure(run: Run) -> None:
    """Fill the report."""
    options = run.options
    rows = options.rows or (20_000 if run.quick else 1_000_000)
    wanted = tuple(options.contender or [""])
    with running_server(options.server) as server:
        run.report.facts |= {
            "server": str(server.installation),
            "rows": f"{rows:,}, {options.table}",
        }
        plugins = options.plugin or server.plugins
        for each in run.rounds(5):
            for plugin in plugins:
                source = Source(server, DATABASE, plugin, PUBLICATION)
                chosen = [
                    name
                    for name in contenders(source)
                    if name != OURS_WITHOUT_KEYS and name.startswith(wanted)
                ]
                for contender in run.in_turn(chosen, each):
                    _one(run, contender, source, rows)
    run.report.notes.append(
        "COMMIT is its return; before it is negative. A first byte before COMMIT counts as if it"
        " had come with it: until then there is nothing to nudge."
        f" {PG_RECVLOGICAL} has no nudges: its time is that of the row on its pipe."
    )
    for plugin in plugins:
        _aims(run, plugin)


def _one(run: Run, contender: str, source: Source, rows: int) -> None:
    """One contender's turn."""
    table = run.options.table
    empty(source.server, table)
    # It ends at the sentinel: a nudge need not wait for the last row, nor count it.
    job = Job(f"public.{table}", f"public.{SENTINEL}", 0)
    with following(contender, source, job, queue=2 * rows) as client:
        big, small = write_one(source.server, table, rows)
        result = client.result(PATIENCE)
    figures = {FIRST_BYTE: result.first_byte - big, SMALL: result.sentinel - small}
    if contender != PG_RECVLOGICAL:
        # What is streamed before COMMIT must not be nudged before it.
        figures |= {
            FROM_BYTE: result.first - max(result.first_byte, big),
            NUDGE: result.first - big,
        }
    run.report.add(
        source.plugin, contender, **{name: value * 1000 for name, value in figures.items()}
    )
    run.say(f"{source.plugin}: {contender}: small one after {result.sentinel - small:.3g} s")


def _aims(run: Run, plugin: str) -> None:
    report = run.report
    if not report.has(plugin, NUDGE, OURS):
        return
    words = f"{plugin}: first nudge of the big one, from"
    report.at_most(f"{words} its first byte", report.median(plugin, FROM_BYTE), 100, "ms")
    if plugin == "pgoutput":
        report.at_most(f"{words} COMMIT", report.median(plugin, NUDGE), 150, "ms")
    if report.has(plugin, SMALL, PG_RECVLOGICAL):
        ratio = report.ratio(plugin, SMALL, PG_RECVLOGICAL)
        report.at_most(f"{plugin}: the small one, over {PG_RECVLOGICAL}", ratio, 1.2, "x")
