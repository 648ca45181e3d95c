"""The shop's settings with all tables in the stream; see `shop_settings`."""

from __future__ import annotations

from benchmarks.speed import shop_settings
from benchmarks.speed.shop_settings import *  # noqa: F403 - settings upon settings

PGNUDGE = {name: value for name, value in shop_settings.PGNUDGE.items() if name != "PUBLICATION"}
