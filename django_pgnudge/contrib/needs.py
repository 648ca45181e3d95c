"""What an app of ``contrib`` needs beside it."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured


def need(app: str, package: str, distribution: str) -> None:
    """Raise ImproperlyConfigured unless a package is installed, and listed beside ``app``."""
    if find_spec(package) is None:
        raise ImproperlyConfigured(
            f"INSTALLED_APPS has {app!r}, and {distribution} is not installed: run"
            f" `pip install {distribution}`, or remove the entry."
        )
    for beside in (package, "django_pgnudge"):
        if not apps.is_installed(beside):
            raise ImproperlyConfigured(
                f"INSTALLED_APPS has {app!r} without {beside!r}: add that, or remove the entry."
            )
