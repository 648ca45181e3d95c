"""``python -m tests.model [--deep] [--traces]``: explore, and say what was found."""

from __future__ import annotations

import argparse

from tests.model.scenarios import DEEP, REMOVALS, SCENARIOS, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="the large bounds: some minutes")
    parser.add_argument("--traces", action="store_true", help="the shortest way to each violation")
    options = parser.parse_args()
    total = 0.0
    print("| explored | states | steps | seconds |\n|---|---|---|---|")
    for scenario in DEEP if options.deep else SCENARIOS:
        found = run(scenario.bounds, limit=10_000_000)
        total += found.seconds
        name = scenario.name if found.trace is None else f"**VIOLATED**: {scenario.name}"
        print(f"| {name} | {found.states:,} | {found.steps:,} | {found.seconds:.1f} |", flush=True)
        if found.trace is not None:
            print(found.told())
    if not options.deep:
        print("\n| taken out | found as | steps of the shortest violation | states | seconds |")
        print("|---|---|---|---|---|")
        for removal in REMOVALS:
            found = run(removal.bounds)
            total += found.seconds
            length = "none found" if found.trace is None else len(found.trace)
            print(
                f"| {removal.guard} | {removal.found_as} | {length} | {found.states:,} "
                f"| {found.seconds:.1f} |", flush=True,
            )  # fmt: skip
            if options.traces:
                print(found.told())
    print(f"\n{total:.0f} seconds of CPU.")


if __name__ == "__main__":
    main()
