"""Values and whole sites that depend on what they read, beside those that name it and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.served import run as served
from benchmarks.served.run import Plan
from benchmarks.speed import observed_values

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from benchmarks.speed.command import Run

WAGTAIL: Final = "Wagtail"
OSCAR: Final = "django-oscar"
VALUES: Final = "values"
SITES: Final = {WAGTAIL: ("wagtail_site", 1000, 60), OSCAR: ("oscar_site", 300, 20)}
"""By name: the project, how many pages or products, and how many with `--quick`."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only", choices=[VALUES, *SITES], help="a part of it")
    parser.add_argument("--seconds", type=float, help="of each contender on each site")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="one write of each writer")
    parser.add_argument("--lease", type=float, metavar="SECONDS")
    parser.add_argument("--size", type=int, metavar="N", help="pages or products of each site")
    parser.add_argument("--visitors", type=int, default=4, metavar="N", help="at a time")


def measure(run: Run) -> None:
    options = run.options
    run.report.paired = True
    plan = Plan(
        seconds=options.seconds or (8 if run.quick else 120),
        every=options.every or (1 if run.quick else 30),
        lease=options.lease or (1 if run.quick else 10),
        visitors=options.visitors,
    )
    if options.only in (None, VALUES):
        observed_values.measure(run)
    for name, (site, size, small) in SITES.items():
        if options.only in (None, name):
            usual = small if run.quick else size
            served.measure(run, site, name, options.size or usual, plan)
