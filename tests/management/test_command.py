"""The command runnudge in this process: what happens before there is a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import Error
from django.core.checks.registry import registry
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError

from django_pgnudge.errors import ConfigError, ServerError
from django_pgnudge.management.commands import runnudge

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of the daemons that were made; none of them starts."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> None:
        made.append(options)
        raise ConfigError("enough")

    monkeypatch.setattr(runnudge, "Daemon", make)
    return made


def test_checks_of_other_apps_do_not_hold_it_up(
    daemons: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_another_app(**kwargs: Any) -> list[Error]:
        raise AssertionError("not asked for")

    of_another_app.tags = ("urls",)  # type: ignore[attr-defined]
    monkeypatch.setattr(
        registry, "registered_checks", {*registry.registered_checks, of_another_app}
    )
    with pytest.raises(CommandError, match="enough"):
        call_command("runnudge", skip_checks=False)
    assert len(daemons) == 1


def test_its_own_checks_come_first(daemons: list[Any], settings: Settings) -> None:
    settings.PGNUDGE = {"INVALIDATES": {}}
    with pytest.raises(SystemCheckError, match="INVALIDATES"):
        call_command("runnudge", skip_checks=False)
    assert not daemons


def test_an_error_with_a_text_from_outside_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ServerError("no\nrole\x1b[2J", sqlstate="28000")

    monkeypatch.setattr(runnudge, "Daemon", refuse)
    with pytest.raises(CommandError) as caught:
        call_command("runnudge")
    assert str(caught.value).isprintable()
    assert "no\\nrole\\x1b[2J" in str(caught.value)
