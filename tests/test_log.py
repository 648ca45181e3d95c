"""log: what a handler raises stays there."""

from __future__ import annotations

import logging

import pytest

from django_pgnudge.log import get_logger
from tests.rude.handler import FullDisk


def test_what_a_handler_raises_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("django_pgnudge.tests")
    handler = FullDisk()
    logger.addHandler(handler)
    try:
        get_logger("django_pgnudge.tests").warning("%s is lost", "this")
    finally:
        logger.removeHandler(handler)
    assert "no space left on device" in capsys.readouterr().err


def test_a_record_names_the_line_that_logged(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("django_pgnudge.tests").warning("%s and %s", 1, 2)
    (record,) = caplog.records
    assert (record.getMessage(), record.funcName) == (
        "1 and 2",
        "test_a_record_names_the_line_that_logged",
    )
