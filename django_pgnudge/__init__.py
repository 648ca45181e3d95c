"""Cache invalidation for Django, driven by PostgreSQL's write-ahead log."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_pgnudge.emitting import aemit, emit
    from django_pgnudge.registration import invalidates

__all__ = ["aemit", "emit", "invalidates"]
__version__ = "0.1.0"

# Looked up on first use: importing the package needs no configured settings.
_EXPORTS = {
    "aemit": "django_pgnudge.emitting",
    "emit": "django_pgnudge.emitting",
    "invalidates": "django_pgnudge.registration",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
