"""Settings of every process of a run, which passes them what differs in one variable.

`nudged` values live in a cache alias of their own unless told otherwise: a Resync clears the whole
version of the plain keys, and would hide an epoch that does not work.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from benchmarks.sites import databases

SITE: Final[dict[str, Any]] = json.loads(os.environ["PGNUDGE_CONSISTENCY"])

DATABASES = databases(SITE, OPTIONS={"connect_timeout": 5})
DATABASES["other"] = {**DATABASES["default"], "NAME": SITE["other"]}
DATABASE_ROUTERS = ["benchmarks.consistency.site.router.Router"]


def _cache(location: str) -> dict[str, Any]:
    if SITE["backend"] == "django":
        options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5}
        backend = "django.core.cache.backends.redis.RedisCache"
    else:
        options = {"SOCKET_TIMEOUT": 5, "SOCKET_CONNECT_TIMEOUT": 5}
        backend = "django_redis.cache.RedisCache"
    return {"BACKEND": backend, "LOCATION": location, "TIMEOUT": 3600, "OPTIONS": options}


CACHES = {"default": _cache(SITE["redis"])}
if SITE["nudged_redis"]:
    CACHES["nudged"] = _cache(SITE["nudged_redis"])
CACHES["second"] = _cache(SITE["second_redis"])
if SITE["files"]:
    for alias in ("nudged", "second"):
        CACHES[alias] = {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": f"{SITE['files']}/{alias}",
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
NUDGED_CACHE = "nudged" if "nudged" in CACHES else "default"
SECOND_CACHE = "second"

INSTALLED_APPS = ["django_pgnudge", "benchmarks.consistency.site"]
SLOWNESS: str = SITE["slowness"]
BROKEN: str | None = SITE["broken"]
USE_TZ = True
SECRET_KEY = "consistency"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.consistency.site.pages"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django_pgnudge.middleware.NudgedSiteMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "benchmarks.consistency.site.pages.TemplateMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
TIME_ZONE = "UTC"


def _rule(*keys: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"keys": list(keys)}
    if SITE["again"]:
        rule["again"] = SITE["again"]
    return rule


PGNUDGE: dict[str, Any] = {
    "PLUGIN": SITE["plugin"],
    "PUBLICATION": SITE["publication"],
    "FEED": SITE["feed"],
    "INVALIDATE": {
        **{
            f"site.{table.capitalize()}": _rule(f"row:{table}:{{pk}}", f"table:{table}")
            for table in ("product", "price", "stock")
        },
        "public.part": _rule("table:part"),
        "public.parent": _rule("table:parent"),
        "acme.item": _rule("table:acme.item"),
        "umbrella.item": _rule("table:umbrella.item"),
        "public.sale": _rule("table:sale"),
        "site.Canary": _rule("canary"),
    },
    "NUDGED": {
        "CACHES": [NUDGED_CACHE, SECOND_CACHE],
        "LEASE": SITE["lease"],
        "SITE": "marked",
        "SCOPE": "benchmarks.consistency.site.tenants.scope",
    },
}
