"""Django settings for processes that tests start: those of the tests, and what the test adds."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

ROOT_URLCONF = __name__
urlpatterns: list[object] = []
globals().update(json.loads(os.environ["PGNUDGE_TEST_SETTINGS"]))
