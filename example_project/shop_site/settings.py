"""Settings of the example shop.

The addresses of PostgreSQL and Redis come, first match wins, from the environment (``PG*`` and
``REDIS_URL``), from the state folder of a running ``manage.py demo``, or are the servers' usual
local ones. So ``manage.py shell`` in a second terminal reaches the demo's servers, and the same
project runs against servers of your own.
"""

import os

from shop_site.state import State

STATE = State.from_environment()
_demo = STATE.addresses()


def _address(name: str, default: str) -> str:
    return os.environ.get(name) or _demo.get(name) or default


SECRET_KEY = "an-example-has-no-secrets"
DEBUG = os.environ.get("SHOP_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "shop_site.urls"
WSGI_APPLICATION = "shop_site.wsgi.application"
ASGI_APPLICATION = "shop_site.asgi.application"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "django_pgnudge",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _address("PGHOST", "127.0.0.1"),
        "PORT": _address("PGPORT", "5432"),
        "NAME": _address("PGDATABASE", "shop"),
        "USER": _address("PGUSER", "postgres"),
        "PASSWORD": _address("PGPASSWORD", ""),
    }
}

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _address("REDIS_URL", "redis://127.0.0.1:6379/0"),
        "KEY_PREFIX": "shop",
        "TIMEOUT": None,
    }
}

# Nothing else lives in this cache, so that a Resync may clear it.
SILENCED_SYSTEM_CHECKS = ["django_pgnudge.W008"]

PGNUDGE = {
    "PUBLICATION": "shop_nudge",
    "INVALIDATE": {
        "shop.Product": ["products", "product:{pk}", "price:{pk}", "category:*"],
        "shop.Category": "category:{pk}",
        # A row of this table names a pair, not a category: all categories go.
        "shop.Product_categories": "category:*",
        # Orders and page views have rules in shop/cachekeys.py.
    },
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "django_pgnudge": {"handlers": ["console"], "level": "INFO"},
        "shop": {"handlers": ["console"], "level": "INFO"},
    },
}
