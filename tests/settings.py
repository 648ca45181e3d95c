"""Django settings of the tests.

The databases lead nowhere by themselves: a test that needs one asks pytest-django for it (`db`,
`transactional_db`, `@pytest.mark.django_db`) or takes `django_postgres`; the fixtures in
fix_django.py put the address of a running server in place. The test app is `tests.shop`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

NOWHERE = "no-test-server.invalid"


def _database() -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "pgnudge",
        "USER": "postgres",
        "PASSWORD": "",
        "HOST": NOWHERE,
        "PORT": "1",
        "OPTIONS": {},
    }


DATABASES = {"default": _database(), "other": _database()}

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "tests-default",
    },
    "fast": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "tests-fast",
    },
}

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_pgnudge",
    *(["tests.shop"] if find_spec("tests.shop") else []),
]

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"
PGNUDGE: dict[str, Any] = {}
