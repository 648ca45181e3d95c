"""As a user would have them: a log in a file, the other settings as they come.

What differs between runs comes in one variable.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from benchmarks.sites import databases
from benchmarks.speed.site.tables import APP, KEYS, TABLES, model_name

SITE: Final[dict[str, Any]] = json.loads(os.environ["PGNUDGE_SPEED"])

DATABASES = databases(SITE)
CACHES = {"default": {"BACKEND": SITE["backend"], "LOCATION": SITE["redis"]}}
INSTALLED_APPS = ["django_pgnudge", "benchmarks.speed.site"]
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {message}", "style": "{"}},
    "handlers": {
        "file": {
            "class": "logging.FileHandler",
            "filename": SITE["log"],
            "formatter": "line",
        }
    },
    "loggers": {"django_pgnudge": {"handlers": ["file"], "level": "INFO"}},
}

PGNUDGE: dict[str, Any] = {
    "PLUGIN": SITE["plugin"],
    "PUBLICATION": SITE["publication"],
    "INVALIDATE": {
        f"{APP}.{model_name(table)}": [key] for table, key in zip(TABLES, KEYS, strict=True)
    },
}
