"""log: what a handler raises stays there."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest

import django_pgnudge
from django_pgnudge import WalFeed
from django_pgnudge.errors import ServerError
from django_pgnudge.log import escape, get_logger
from tests.hostile import HostileServer, Peer
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


NASTY = "a\nb\x1b[2J\r\u2028\u202e\x85\x00\udc80"


class OddError(Exception):
    """With a text that it was given from outside."""


def lines_of(log: Callable[[logging.LoggerAdapter[logging.Logger]], None]) -> list[str]:
    """What a formatter makes of one call, as characters that a terminal would take apart."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("django_pgnudge.tests")
    logger.addHandler(handler)
    try:
        log(get_logger("django_pgnudge.tests"))
    finally:
        logger.removeHandler(handler)
    return stream.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize(
    "value", [NASTY, OddError(NASTY), [NASTY], {"key": NASTY}, ServerError(NASTY, sqlstate=NASTY)]
)
@pytest.mark.parametrize("form", ["%s", "%r", "%.60s"])
def test_a_text_from_outside_is_one_printable_line(value: object, form: str) -> None:
    (line,) = lines_of(lambda log: log.warning(f"from outside: {form}.", value))
    assert line.isprintable()
    assert line.startswith("from outside: ")
    assert "a\\nb\\x1b[2J\\r\\u2028\\u202e\\x85\\x00\\udc80" in line.replace("\\\\", "\\")


def test_a_message_that_was_put_together_before_is_escaped_too() -> None:
    assert lines_of(lambda log: log.warning(f"{NASTY}")) == [escape(NASTY)]


def test_what_needs_no_escaping_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = OddError("größe 表 \\ 'x'")
    get_logger("django_pgnudge.tests").warning("%s %s %d %.1f %r", "größe", error, 7, 1.5, "a\\b")
    (record,) = caplog.records
    assert record.args == ("größe", error, 7, 1.5, "a\\b"), "handlers that look at them may"
    assert record.getMessage() == "größe größe 表 \\ 'x' 7 1.5 'a\\\\b'"


def test_only_the_lines_of_a_traceback_are_lines() -> None:
    def fail(log: logging.LoggerAdapter[logging.Logger]) -> None:
        try:
            try:
                raise OddError(NASTY)
            except OddError as error:
                raise ValueError("x\nFAKE LINE") from error
        except ValueError:
            log.exception("it failed")

    lines = lines_of(fail)
    assert lines[0] == "it failed"
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith(("FAKE LINE", "b"))]
    assert lines[-1] == "ValueError: x\\nFAKE LINE"
    assert any(line.endswith(f"OddError: {escape(NASTY)}") for line in lines)


def test_an_argument_that_has_no_text_loses_only_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Mute:
        def __str__(self) -> str:
            raise ValueError("no words")

    get_logger("django_pgnudge.tests").warning("%s", Mute())
    assert "no words" in capsys.readouterr().err


def test_no_module_logs_past_the_loggers_that_escape() -> None:
    package = Path(django_pgnudge.__file__).parent
    others = {
        path.name
        for path in package.rglob("*.py")
        if "logging.getLogger" in path.read_text() and path.name != "log.py"
    }
    assert not others


async def test_what_a_server_says_before_the_login_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.startup()
        fields = b"SFATAL\0C57P03\0Mstarting\nINFO  all is well\x1b[8m\0HForged\r\n\0\0"
        await peer.send(b"E", pack("!I", len(fields) + 4), fields)

    async with HostileServer(refuse) as server:
        feed = WalFeed(port=server.port, user="jane", database="shop", give_up=lambda error: True)
        with pytest.raises(ServerError):
            await anext(aiter(feed))
        await feed.aclose()
        again = WalFeed(port=server.port, user="jane", database="shop", backoff=(0.01, 0.01))
        aiter(again)
        await server.connected(3)
        await again.aclose()
    lines = caplog.text.removesuffix("\n").split("\n")
    assert [line for line in lines if "cannot connect" in line]
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith(("INFO  all", "Forged"))]
