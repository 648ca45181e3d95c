"""rules/parsing.py: the setting is read, and its mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_pgnudge import invalidates
from django_pgnudge.errors import RuleError
from django_pgnudge.registry import Registry
from django_pgnudge.rules import Deletes, load_rules
from django_pgnudge.rules.parsing import read_rules
from tests.rules.deleting import event, rules


@pytest.mark.parametrize(
    ("value", "number", "words"),
    [
        ([], "E007", "is empty"),
        ("", "E007", "not a key"),
        (None, "E007", "not a key"),
        ([1], "E007", "1 is not a key"),
        ({}, "E007", "without 'keys'"),
        ({"keys": []}, "E007", "'keys' is empty"),
        ({"keys": "a", "cahce": "x"}, "E007", "Did you mean 'cache'?"),
        ({"keys": "a", "cache": 1}, "E007", "alias of CACHES"),
        ({"keys": "a", "version": "2"}, "E007", "whole number"),
        ({"keys": "a", "version": True}, "E007", "whole number"),
        ({"key": ""}, "E007", "literal key"),
        ({"key": "a", "cache": "fast"}, "E007", "literal key"),
        ({"keys": "a", "cache": "fats"}, "E010", "Did you mean 'fast'?"),
        ("p:{id}", "E008", "The fields are {pk}"),
        ("p:{}", "E008", "The fields are {pk}"),
        ("p:{pk:>5}", "E008", "The fields are {pk}"),
        ("p:{pk!r}", "E008", "The fields are {pk}"),
        ("p:{pk.id}", "E008", "The fields are {pk}"),
        ("p:{pk[x]}", "E008", "The fields are {pk}"),
        ("p:{pk", "E008", "malformed"),
        ("p:}", "E008", "malformed"),
        ("p:{pk[1]}", "E008", "Columns are counted from 0, and it has 1"),
        ("tests.shop.unimportable.keys", "E009", "RuntimeError: not today"),
    ],
)
def test_a_malformed_rule_names_itself_and_what_is_allowed(
    value: Any,
    number: str,
    words: str,
) -> None:
    with override_settings(PGNUDGE={"INVALIDATE": {"shop.Product": value}}):
        assert [problem.id for problem in read_rules(Registry())[1]] == [number]
    with pytest.raises(ImproperlyConfigured) as caught:
        rules({"shop.Product": value})
    assert words in str(caught.value)
    assert "shop.Product" in str(caught.value)


def test_an_unknown_label_is_improperly_configured() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Did you mean 'shop\.Product'"):
        rules({"shop.Produkt": "x"})


@pytest.mark.parametrize("again", [0, -1, 3601, True, "2"])
def test_again_is_a_number_of_seconds(again: Any) -> None:
    with override_settings(PGNUDGE={"INVALIDATE": {"public.t": {"keys": "k", "again": again}}}):
        _, problems = read_rules(Registry())
    assert [problem.id for problem in problems] == ["E007"]
    with pytest.raises(RuleError, match="again"):
        invalidates("public.t", "k", again=again)


def test_again_names_what_is_deleted_once_more_and_when() -> None:
    rules = [{"keys": ["a", "p:{pk}"], "again": 2}, {"keys": "b"}, {"keys": "c", "again": 5.0}]
    with override_settings(PGNUDGE={"INVALIDATE": {"public.t": rules}}):
        (deletes,) = load_rules(Registry()).deletes(event("public.t", 1)).values()
    assert deletes.keys == {"a", "b", "c", "p:1"}
    assert deletes.later == {2.0: Deletes(keys={"a", "p:1"}), 5.0: Deletes(keys={"c"})}
