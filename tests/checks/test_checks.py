"""checks/: when Django runs them, and their numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.checks import registry as check_registry
from django.test import override_settings

import django_pgnudge.checks
from django_pgnudge.checks import IDS, facts, server, static
from tests.checks.asking import ids


def test_a_setting_that_is_no_dictionary_is_one_message() -> None:
    with override_settings(PGNUDGE=["default"]):
        assert ids(static.run()) == ["E001"]
        assert server.run(["default"]) == []


def test_a_server_is_asked_only_if_its_alias_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(facts, "read_facts", never)
    monkeypatch.setattr(server, "read_facts", never)
    assert django_pgnudge.checks.check_database(databases=None) == []
    assert django_pgnudge.checks.check_database(databases=["other"]) == []


def test_checks_are_registered_and_those_of_the_database_under_their_tag() -> None:
    registered = check_registry.registry.get_checks(include_deployment_checks=True)
    assert django_pgnudge.checks.check_settings in registered
    assert Tags.database in django_pgnudge.checks.check_database.tags
    with override_settings(PGNUDGE={"NOPE": 1}):
        assert ids(run_checks(tags=["pgnudge"])) == ["E002"]


def test_every_number_in_the_source_is_in_the_table_and_the_other_way_round() -> None:
    package = Path(django_pgnudge.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        if path.name != "ids.py":
            used |= set(re.findall(r'"([EWI]\d{3})"', path.read_text()))
    assert used == set(IDS)
    assert settings.PGNUDGE == {}
