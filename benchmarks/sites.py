"""What the settings of the benchmarks' sites share; imports nothing that the daemon would not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def databases(site: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """``DATABASES``, of what a benchmark tells its site."""
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": site["database"],
            "USER": site["user"],
            "HOST": site["host"],
            "PORT": site["port"],
            **more,
        }
    }
