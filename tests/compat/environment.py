"""Settings that every project shares: where the servers are, told by whoever starts the process."""

from __future__ import annotations

import json
import os
from typing import Any, Final

__all__ = [
    "CACHES",
    "DATABASE",
    "LOGGING",
    "MIDDLEWARE",
    "SILENCED_SYSTEM_CHECKS",
    "TEMPLATES",
]

_given: dict[str, Any] = json.loads(os.environ["PGNUDGE_COMPAT"])

DATABASE: Final[dict[str, Any]] = {
    "ENGINE": "django.db.backends.postgresql",
    **_given["database"],
}

CACHES: Final[dict[str, Any]] = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _given["redis"],
        "KEY_PREFIX": "site",
    },
}

MIDDLEWARE: Final = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tests.compat.pages.plain",
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
    "loggers": {"django_pgnudge.nudged": {"handlers": ["lines"], "level": "INFO"}},
}

# What the projects cache by themselves is in the cache "default", and nothing else is.
SILENCED_SYSTEM_CHECKS: Final = ["django_pgnudge.W008"]
