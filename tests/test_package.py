"""The package itself: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import django_pgnudge
from django_pgnudge import errors


def test_what_is_exported_is_pinned() -> None:
    assert django_pgnudge.__all__ == [
        "TLS",
        "Batch",
        "ConfigError",
        "Event",
        "FeedItem",
        "PgNudgeError",
        "Resync",
        "ServerError",
        "WalFeed",
        "__version__",
        "aemit",
        "asettled",
        "emit",
        "fragment",
        "invalidates",
        "never_nudged",
        "nudged",
        "nudged_condition",
        "nudged_page",
        "nudged_site",
        "own",
        "page",
        "settled",
        "site",
    ]
    assert all(getattr(django_pgnudge, name) is not None for name in django_pgnudge.__all__)


def test_every_error_is_below_the_root_and_exported() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(errors.__all__) == classes
    assert all(issubclass(getattr(errors, name), errors.PgNudgeError) for name in classes)


def test_a_name_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nudge'"):
        django_pgnudge.nudge  # noqa: B018


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}
    )
    return done.stdout.strip()


def test_importing_the_package_needs_no_django_and_no_driver() -> None:
    heavy = ["django", "psycopg", "psycopg2", "redis"]
    found = in_a_fresh_process(
        f"import sys; sys.path[:] = {sys.path!r}; import django_pgnudge\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    assert found == "[]"


def test_what_needs_django_is_loaded_on_first_use_without_settings() -> None:
    found = in_a_fresh_process(
        f"import sys; sys.path[:] = {sys.path!r}; import django_pgnudge\n"
        "print(callable(django_pgnudge.emit), 'django_pgnudge.daemon' in sys.modules)"
    )
    assert found == "True False"


def test_the_feed_is_loaded_on_first_use_and_scram_not_even_then() -> None:
    found = in_a_fresh_process(
        f"import sys; sys.path[:] = {sys.path!r}; import django_pgnudge\n"
        "print('asyncio' in sys.modules, callable(django_pgnudge.WalFeed), 'scramp' in sys.modules)"
    )
    assert found == "False True False"


def test_every_module_can_be_imported_where_there_is_no_unix() -> None:
    """By developers on Windows, whose Python lacks these."""
    found = in_a_fresh_process(
        "import importlib, os, pkgutil, signal, sys\n"
        f"sys.path[:] = {sys.path!r}\n"
        "for name in ('register_at_fork', 'fork'): delattr(os, name)\n"
        "for name in ('SIGHUP', 'SIGKILL', 'SIGUSR1'): delattr(signal, name)\n"
        "sys.modules.update(dict.fromkeys(['fcntl', 'grp', 'pwd', 'resource', 'termios']))\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import django; django.setup()\n"
        "import django_pgnudge\n"
        "names = [each.name for each in pkgutil.walk_packages(\n"
        "    django_pgnudge.__path__, 'django_pgnudge.')]\n"
        "print(all(map(importlib.import_module, names)) and len(names) > 100)"
    )
    assert found == "True"
