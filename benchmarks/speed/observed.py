"""Values and whole sites that depend on what they read, beside those that name it and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.served import run as served
from benchmarks.served.run import Plan
from benchmarks.speed import observed_values

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from benchmarks.speed.command import Run

VALUES: Final = "values"


def add_arguments(parser: ArgumentParser) -> None:
    parts = [VALUES, *(site.name for site in served.SITES)]
    parser.add_argument("--only", choices=parts, help="a part of it")
    sites = parser.add_argument_group("of the sites")
    sites.add_argument("--seconds", type=float, help="of each contender on each site")
    sites.add_argument("--every", type=float, metavar="SECONDS", help="each writer writes once")
    sites.add_argument("--lease", type=float, metavar="SECONDS")
    sites.add_argument("--size", type=int, metavar="N", help="pages or products")
    sites.add_argument("--turns", type=int, default=1, metavar="N", help="of each contender")
    sites.add_argument("--visitors", type=int, default=4, metavar="N", help="at a time")


def measure(run: Run) -> None:
    options, quick = run.options, run.quick
    run.report.paired = True
    if options.only in (None, VALUES):
        observed_values.measure(run)
    for site in served.SITES:
        if options.only in (None, site.name):
            plan = Plan(
                size=options.size or (site.small if quick else site.size),
                seconds=options.seconds or (10 if quick else 180),
                every=options.every or (2 if quick else 60),
                lease=options.lease or (1 if quick else 10),
                visitors=options.visitors,
                turns=options.turns,
            )
            served.measure(run, site, plan)
