"""django-cacheops, in the Redis database of the other caches."""

from __future__ import annotations

import json
import os

from tests.contrib.site_settings import *  # noqa: F403
from tests.contrib.site_settings import INSTALLED_APPS as _INSTALLED
from tests.contrib.site_settings import apps_to_add

INSTALLED_APPS = [*_INSTALLED, *apps_to_add("moving cacheops")]
CACHEOPS_REDIS = json.loads(os.environ["PGNUDGE_COMPAT"])["redis"]
CACHEOPS = {"*.*": {"ops": "all", "timeout": 3600}}
CACHEOPS_INSIDEOUT = bool(os.environ.get("TEST_INSIDEOUT"))


def prefix(query: object) -> str:
    """As of a site of tenants: the daemon cannot know it."""
    return f"{os.environ['TEST_PREFIX']}:"


if os.environ.get("TEST_PREFIX"):
    CACHEOPS_PREFIX = prefix
