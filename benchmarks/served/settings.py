"""What the sites' settings share; the contender and the servers come in one variable."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from benchmarks.served.contenders import CONTENDERS
from benchmarks.sites import databases

__all__ = [
    "CACHES", "DATABASES", "FIRST_MIDDLEWARE", "LAST_MIDDLEWARE", "LOGGING", "MIDDLEWARE",
    "MORE", "MORE_APPS", "TEMPLATES",
]  # fmt: skip

SITE: Final[dict[str, Any]] = json.loads(os.environ["PGNUDGE_SERVED"])
_contender: Final = CONTENDERS[SITE["contender"]]

DATABASES: Final = databases(SITE, CONN_MAX_AGE=None)
CACHES: Final[dict[str, Any]] = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": SITE["redis"]}
}
MORE_APPS: Final = _contender.apps
FIRST_MIDDLEWARE: Final = _contender.first
LAST_MIDDLEWARE: Final = _contender.last
MORE: Final[dict[str, Any]] = dict(_contender.more)
if _contender.has_daemon:
    MORE["PGNUDGE"] = {"NUDGED": {"LEASE": SITE["lease"]}}

MIDDLEWARE: Final = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES: Final[list[dict[str, Any]]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"lines": {"class": "logging.StreamHandler"}},
    "loggers": {"django_pgnudge": {"handlers": ["lines"], "level": "INFO"}},
}
