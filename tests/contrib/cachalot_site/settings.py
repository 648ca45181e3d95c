"""django-cachalot in a cache alias of its own."""

from __future__ import annotations

from tests.contrib.site_settings import *  # noqa: F403
from tests.contrib.site_settings import INSTALLED_APPS as _INSTALLED
from tests.contrib.site_settings import apps_to_add

INSTALLED_APPS = [*_INSTALLED, *apps_to_add("moving cachalot")]
CACHALOT_CACHE = "queries"
CACHALOT_UNCACHABLE_TABLES = ["shop_coupon"]
CACHALOT_ADDITIONAL_TABLES = ["plain_table"]
