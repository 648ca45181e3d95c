"""Connects the receiver; it says that it was entered by making the file ``settings.STUBBORN``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings

from django_pgnudge.signals import tables_changed


def never_returns(**given: Any) -> None:
    Path(settings.STUBBORN).touch()
    threading.Event().wait()


class StubbornConfig(AppConfig):
    name = "tests.stubborn"

    def ready(self) -> None:
        tables_changed.connect(never_returns)
