"""`python -m benchmarks NAME …`: each benchmark is a module with `add_arguments` and `main`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

BENCHMARKS: Final = {
    "consistency": "writers, readers and faults: is anything served that is too old?",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    modules = {}
    for name, purpose in BENCHMARKS.items():
        modules[name] = importlib.import_module(f"benchmarks.{name}.command")
        modules[name].add_arguments(commands.add_parser(name, help=purpose, description=purpose))
    options = parser.parse_args(arguments)
    return int(modules[options.name].main(options))


if __name__ == "__main__":
    sys.exit(main())
