"""A site that caches by Django's means, with the settings that the documentation shows for it."""

from __future__ import annotations

import os

from tests.contrib.site_settings import *  # noqa: F403
from tests.contrib.site_settings import documented

ROOT_URLCONF = "tests.contrib.pages_site.urls"
ALLOWED_HOSTS = ["*"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
_SHOWN = documented(os.environ["TEST_MOVE"])
MIDDLEWARE = _SHOWN.get("MIDDLEWARE", [])
PGNUDGE = {**_SHOWN["PGNUDGE"], "NUDGED": {"LEASE": 5}}
