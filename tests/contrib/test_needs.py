"""contrib.needs: an app that stands alone says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured

from django_pgnudge.contrib.needs import need
from tests import ROOT


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="pip install django-nothing"):
        need("django_pgnudge.contrib.nothing", "nothing_of_that_name", "django-nothing")


def test_an_app_that_is_not_listed_beside_is_named() -> None:
    # json is a package that is always there and no app.
    with pytest.raises(ImproperlyConfigured, match="without 'json'"):
        need("django_pgnudge.contrib.json", "json", "django-json")


@pytest.mark.parametrize("package", ["cachalot", "cacheops"])
def test_the_apps_ask(package: str) -> None:
    pytest.importorskip(package)
    config = AppConfig.create(f"django_pgnudge.contrib.{package}")
    with pytest.raises(ImproperlyConfigured, match=f"without '{package}'"):
        config.ready()


@pytest.mark.parametrize("package", ["cachalot", "cacheops"])
def test_each_app_loads_beside_its_package(package: str) -> None:
    pytest.importorskip(package)
    given = {
        "INSTALLED_APPS": [package, "django_pgnudge", f"django_pgnudge.contrib.{package}"],
        "CACHES": {
            "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                        "LOCATION": "/nowhere"}
        },
    }  # fmt: skip
    code = (
        "import django; django.setup(); from django_pgnudge.third_party import registered;"
        "from django.core.checks import run_checks;"
        "print([each.name for each in registered()], run_checks(tags=['pgnudge']))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:django_pgnudge", "-c", code],
        cwd=ROOT, text=True, capture_output=True, check=False,
        env=os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.process_settings",
            "PGNUDGE_TEST_SETTINGS": json.dumps(given),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        },
    )  # fmt: skip
    assert answer.stdout == f"['django_pgnudge.contrib.{package}'] []\n", answer.stderr
