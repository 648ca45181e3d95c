"""What the benchmarks found, for a page: `python -m benchmarks plots FOLDER --to docs/performance`.

FOLDER holds the JSON files that they wrote with `--json`. Of each there will be pictures and a file
of tables. The SVG files are the same, byte for byte, whenever they are drawn from the same results
by the same Matplotlib; they have no background and use colours that can be read on a light and on a
dark one.

    drawing     bars, dots, colours, the file
    pictures    which figure of which benchmark is drawn how
    tables      aims and figures, in Markdown
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.report import Report

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_arguments", "main"]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="with the JSON files of runs")
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="for pictures and tables; else the same"
    )
    parser.add_argument("--png", action="store_true", help="PNG files on white and on black, too")


def main(options: Namespace) -> int:
    """Draw and write what there is; 2 if there is nothing."""
    # Only here: nobody else needs Matplotlib.
    from benchmarks.speed.plots.drawing import save, style  # noqa: PLC0415
    from benchmarks.speed.plots.pictures import PICTURES  # noqa: PLC0415
    from benchmarks.speed.plots.tables import page  # noqa: PLC0415

    target: Path = options.to or options.folder
    target.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for path in sorted(options.folder.glob("*.json")):
        report = Report.from_json(json.loads(path.read_text()))
        for name, picture in PICTURES.get(report.name, {}).items():
            with style():
                save(picture(report), target / name, png=options.png)
            print(target / f"{name}.svg")
            drawn += 1
        if report.name in PICTURES:
            (target / f"{report.name}.md").write_text(page(report))
            print(target / f"{report.name}.md")
    if not drawn:
        print(f"There are no results of a benchmark in {options.folder}.", file=sys.stderr)
    return 0 if drawn else 2
