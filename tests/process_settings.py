"""Django settings for processes that tests start: those of the tests, and what the test adds."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

globals().update(json.loads(os.environ["PGNUDGE_TEST_SETTINGS"]))
