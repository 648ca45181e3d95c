"""What happens at each request is said once in a while."""

from __future__ import annotations

import threading
import time
from typing import Final

from django_pgnudge.memo import Memo

__all__ = ["forget", "seldom"]

AGAIN_AFTER: Final = 60.0

_said: Memo[str, float] = Memo(1000)
_lock = threading.Lock()


def seldom(what: str, every: float = AGAIN_AFTER) -> bool:
    """Whether ``every`` seconds have passed since this was last True for ``what``."""
    now = time.monotonic()
    with _lock:
        last = _said.get(what)
        if last is not None and now - last < every:
            return False
        _said[what] = now
        return True


def forget() -> None:
    """Say everything again: for tests."""
    _said.clear()
