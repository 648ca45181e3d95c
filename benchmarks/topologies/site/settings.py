"""What differs between topologies comes in one variable."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from benchmarks.sites import databases

SITE: Final[dict[str, Any]] = json.loads(os.environ["PGNUDGE_TOPOLOGY"])

DATABASES = databases(SITE)
CACHES = {"default": SITE["cache"]}
INSTALLED_APPS = ["django_pgnudge", "benchmarks.topologies.site"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
SECRET_KEY = "of no use"
globals().update(SITE["more"])

PGNUDGE = {
    "INVALIDATE": {"site.Item": "item:{pk}"},
    "NUDGED": {"CACHES": ["default"], "LEASE": SITE["lease"]},
}
