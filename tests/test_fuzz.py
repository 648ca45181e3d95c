"""A short, repeatable run of `python -m tests.fuzz`, and the proof that it would notice."""

from __future__ import annotations

import json

import pytest

from django_pgnudge.wire import messages
from tests import fuzz


@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages_end_in_a_documented_error_or_in_nothing(seed: int) -> None:
    summary = fuzz.fuzz(5000, seed)
    assert summary["violations"] == []
    assert summary["messages"] >= 5000
    assert len(summary["ends"]) >= 4, "the cases did not get far enough to fail in many ways"


def test_the_command_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--messages", "500", "--seed", "5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["seed"] == 5
    assert summary["messages"] >= 500


def test_a_stray_exception_is_a_violation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stray(body: bytes) -> None:
        raise IndexError("stray")

    monkeypatch.setattr(messages, "error_response", stray)
    assert fuzz.main(["--messages", "5000"]) == 1
    violation = json.loads(capsys.readouterr().out)["violations"][0]
    assert "IndexError('stray')" in violation["exception"]
    assert violation["case"]
