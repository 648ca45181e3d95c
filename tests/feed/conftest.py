"""A home without the files of whoever runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the files of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
