"""Connects the receiver; it says that it was entered by making the file $STUBBORN."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from django.apps import AppConfig

from django_pgnudge.signals import tables_changed


def never_returns(**given: Any) -> None:
    Path(os.environ["STUBBORN"]).touch()
    threading.Event().wait()


class StubbornConfig(AppConfig):
    name = "tests.stubborn"

    def ready(self) -> None:
        tables_changed.connect(never_returns)
