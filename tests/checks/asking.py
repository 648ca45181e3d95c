"""The checks of given settings, and what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.checks import INFO
from django.test import override_settings

from django_pgnudge.checks import server, static

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

REDIS = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
CACHES = {
    "default": REDIS,
    "own": {**REDIS, "KEY_PREFIX": "own"},
    "fast": {**REDIS, "LOCATION": "redis://127.0.0.1:1/1"},
    "same": REDIS,
    "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    "files": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/x"},
    "broken": {"BACKEND": "django.core.cache.backends.nothing.NoCache"},
    "hashed": {**REDIS, "KEY_FUNCTION": "tests.checks.asking.hashed"},
}


def hashed(key: str, prefix: str, version: int) -> str:
    return str(hash((key, prefix, version)))


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(found.id).removeprefix("django_pgnudge.") for found in messages]


def check(**pgnudge: Any) -> list[CheckMessage]:
    """The checks that need no connection."""
    with override_settings(PGNUDGE=pgnudge):
        return static.run()


def ask_server(**pgnudge: Any) -> list[CheckMessage]:
    with override_settings(PGNUDGE=pgnudge):
        return server.run(["default"])


def check_server(**pgnudge: Any) -> list[CheckMessage]:
    """Without what is true of every server that nobody has changed."""
    return [found for found in ask_server(**pgnudge) if found.level > INFO]


def rules(*keys: Any, cache: str = "own") -> dict[str, Any]:
    return {"shop.Product": {"keys": list(keys), "cache": cache}}
