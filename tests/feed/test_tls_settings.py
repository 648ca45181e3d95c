"""feed/tls.py: its settings, without a server."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from django_pgnudge.errors import ConfigError
from django_pgnudge.feed import TLS

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mode": "always"}, "mode='always' is not one of disable, allow"),
        ({"channel_binding": "maybe"}, "channel_binding='maybe'"),
        ({"negotiation": "fast"}, "negotiation='fast'"),
        ({"mode": "prefer", "negotiation": "direct"}, "needs mode 'require'"),
        ({"mode": "require", "rootcert": "system"}, "needs mode 'verify-full'"),
    ],
)
def test_settings_that_cannot_be_are_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        TLS(**options)


def test_the_argument_of_a_feed_is_understood() -> None:
    assert TLS.of(False).mode == "disable"
    assert TLS.of(True) == TLS("verify-full", rootcert="system")
    given = TLS("require")
    assert TLS.of(given) is given
    context = ssl.create_default_context()
    assert (TLS.of(context).mode, TLS.of(context).make_context()) == ("verify-full", context)
    context.check_hostname = False
    assert TLS.of(context).mode == "require"
    with pytest.raises(ConfigError, match="neither a bool"):
        TLS.of("require")  # type: ignore[arg-type]


def test_the_platforms_authorities_are_used_where_asked_for() -> None:
    context = TLS("verify-full", rootcert="system").make_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_key_password_is_not_shown() -> None:
    assert "hidden" not in repr(TLS(key_password="hidden"))


def test_a_home_that_cannot_be_found_has_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    assert TLS("require").make_context().verify_mode is ssl.CERT_NONE
