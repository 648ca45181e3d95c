"""A receiver as slow as the file named by the site says; a fault writes it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from benchmarks.consistency.site.settings import SLOWNESS
from django_pgnudge.signals import tables_changed


def linger(**_: Any) -> None:
    """Sleep as many seconds as the file holds."""
    with contextlib.suppress(OSError, ValueError):
        time.sleep(float(Path(SLOWNESS).read_text()))


def connect() -> None:
    tables_changed.connect(linger, dispatch_uid="linger")
