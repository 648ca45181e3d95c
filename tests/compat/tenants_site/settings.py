"""A site of django-tenants: shared tables in `public`, a shop for each tenant in its schema."""

from __future__ import annotations

from typing import Any

from tests.compat.environment import (
    CACHES,
    DATABASE,
    LOGGING,
    MIDDLEWARE,
    SILENCED_SYSTEM_CHECKS,
    TEMPLATES,
)

__all__ = ["LOGGING", "SILENCED_SYSTEM_CHECKS", "TEMPLATES"]

DATABASES = {"default": {**DATABASE, "ENGINE": "django_tenants.postgresql_backend"}}
CACHES = {
    **CACHES,
    # As django-tenants documents it: each tenant has keys of its own.
    "own": {
        **CACHES["default"],
        "KEY_PREFIX": "own",
        "KEY_FUNCTION": "django_tenants.cache.make_key",
        "REVERSE_KEY_FUNCTION": "django_tenants.cache.reverse_key",
    },
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = [
    "django_tenants",
    "tests.compat.tenants_site.shared",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_pgnudge",
]
TENANT_APPS = ["django.contrib.contenttypes", "tests.compat.tenants_site.shop"]
INSTALLED_APPS = [*SHARED_APPS, *[app for app in TENANT_APPS if app not in SHARED_APPS]]
TENANT_MODEL = "shared.Client"
TENANT_DOMAIN_MODEL = "shared.Domain"
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware", *MIDDLEWARE]
ROOT_URLCONF = "tests.compat.tenants_site.urls"
SECRET_KEY = "compat"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]

PGNUDGE: dict[str, Any] = {
    "PUBLICATION": "shops",
    "INVALIDATE": {
        "*.shop.Product": [
            {"keys": ["{schema}:products", "{schema}:product:{pk}"]},
            {"keys": ["products", "product:{pk}"], "cache": "own"},
        ],
        "shared.Plan": [{"keys": "plans"}, {"keys": "plans", "cache": "own"}],
    },
    "NUDGED": {"LEASE": 5},
}
