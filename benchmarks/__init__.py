"""Measurements and proofs that take longer than a test: `python -m benchmarks --help`.

They run from a clone of the repository, on the throwaway servers of `example_project/servers`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# `servers` lives beside the example project and is no installed package.
if (_servers := str(ROOT / "example_project")) not in sys.path:
    sys.path.append(_servers)
