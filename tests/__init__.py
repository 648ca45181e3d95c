"""The tests: each folder is that of the package it tests; `project` tests what is around it.

`fix_*.py` are fixtures by resource, `shop`, `tenants` and `publishing` are Django apps for tests,
and `compat` has third-party projects as they are installed.
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
"""The checkout."""
