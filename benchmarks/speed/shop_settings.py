"""The shop's settings as one contender in a benchmark of hits needs them; see `shop.Shop`."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from shop_site import settings as shop
from shop_site.settings import *  # noqa: F403 - settings upon settings

SITE: Final[dict[str, Any]] = json.loads(os.environ["PGNUDGE_SPEED"])

INSTALLED_APPS = [*shop.INSTALLED_APPS, *SITE["apps"]]
CACHES = {"default": {**shop.CACHES["default"], "BACKEND": SITE["backend"]}}
PGNUDGE = {**shop.PGNUDGE, "NUDGED": {"CACHES": ["default"]}}

CACHALOT_TIMEOUT = 3600
CACHEOPS_REDIS = os.environ["REDIS_URL"]
CACHEOPS = {"shop.*": {"ops": "all", "timeout": 3600}}
