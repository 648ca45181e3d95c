"""Turns the rules of the setting and of ``cachekeys.py`` into ``Rule`` objects or problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from django_pgnudge.conf import Problem, conf, did_you_mean
from django_pgnudge.errors import RuleError, UnknownLabelError
from django_pgnudge.registry import Registry
from django_pgnudge.registry.labels import EVERY_TABLE
from django_pgnudge.registry.trees import PLUS, is_tree
from django_pgnudge.rules.keyspecs import Fixed, KeySpec, Template, read_again
from django_pgnudge.rules.registration import by_cache, registrations

if TYPE_CHECKING:
    from django.db.models import Model

_ANY: Final = "*"
"""The target of a rule for every table. As a payload it would be any own nudge."""

_RULE_KEYS: Final = ("keys", "cache", "version", "again")


@dataclass(frozen=True, slots=True)
class CacheRef:
    """A cache and a version of its keys; None is the cache's own version.

    ``tenant`` is the schema of the tenant, if the cache's KEY_FUNCTION puts it into keys.
    """

    alias: str = "default"
    version: int | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """The keys that a change of ``target`` deletes in one cache; ``where`` is the rule's source.

    After ``again`` seconds the keys are deleted once more; None means never. ``is_tree``: the
    target is a model, and a change of the tables below it deletes the keys, too.
    """

    target: str | type[Model]
    specs: tuple[KeySpec, ...]
    ref: CacheRef
    where: str
    again: float | None = None
    is_tree: bool = False


def read_rules(registry: Registry) -> tuple[list[Rule], list[Problem]]:
    """The valid rules, and the problems of the others."""
    problems: list[Problem] = []
    rules: list[Rule] = []
    for label, value in conf.INVALIDATE.items():
        where = f'PGNUDGE["INVALIDATE"][{label!r}]'
        rules += _setting(label, value, where, problems)
    for entry in registrations():
        for alias, specs in entry.specs.items():
            ref = CacheRef(alias, entry.version)
            target = EVERY_TABLE if entry.target == _ANY else entry.target
            rules.append(Rule(target, specs, ref, entry.where, entry.again))
    rules = [replace(rule, **_tree(rule.target, registry)) for rule in rules]
    return [rule for rule in rules if _is_sound(rule, registry, problems)], problems


def _tree(target: str | type[Model], registry: Registry) -> dict[str, Any]:
    """The model on top of a tree, as the target; nothing for any other target."""
    if not (isinstance(target, str) and is_tree(target)):
        return {}
    top = target.removesuffix(PLUS)
    with suppress(UnknownLabelError):  # which is found again
        if registry.model_of(top.removeprefix("*.")) is None:
            return {}
    return {"target": top, "is_tree": True}


def _setting(label: str, value: object, where: str, problems: list[Problem]) -> Iterator[Rule]:
    """One value of ``INVALIDATE``: a key, a rule (a dictionary with ``keys``), or several."""
    entries: list[Any] = (
        list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    )
    plain = [entry for entry in entries if not _is_rule(entry)]
    ruled = [dict(entry) for entry in entries if _is_rule(entry)]
    if plain:
        ruled.insert(0, {"keys": plain})
    if not entries:
        problems.append(Problem("E007", f"{where} is empty.", "Name at least one key."))
    for entry in ruled:
        try:
            yield from _rules(label, entry, where)
        except RuleError as error:
            problems.append(Problem(error.id, f"{where}: {error.message}", error.hint))


def _is_rule(entry: object) -> bool:
    return isinstance(entry, Mapping) and "key" not in entry


def _rules(label: str, entry: dict[Any, Any], where: str) -> Iterator[Rule]:
    unknown = [name for name in entry if name not in _RULE_KEYS]
    if unknown or "keys" not in entry:
        what = f"{unknown[0]!r} is not part of a rule" if unknown else "a rule without 'keys'"
        raise RuleError(
            "E007",
            f"{what}: {entry!r}.",
            f"A rule has {', '.join(map(repr, _RULE_KEYS))}."
            f"{did_you_mean(unknown[0], _RULE_KEYS) if unknown else ''}",
        )
    keys = entry["keys"]
    keys = list(keys) if isinstance(keys, list | tuple | set | frozenset) else [keys]
    alias, version = entry.get("cache"), entry.get("version")
    if not keys:
        raise RuleError("E007", "'keys' is empty.", "Name at least one key.")
    if not (alias is None or isinstance(alias, str)):
        raise RuleError("E007", f"'cache' is {alias!r}.", "It is an alias of CACHES.")
    if not (version is None or type(version) is int):
        raise RuleError("E007", f"'version' is {version!r}.", "It is a whole number or None.")
    again = read_again(entry.get("again"))
    for found, specs in by_cache(keys, alias).items():
        target = EVERY_TABLE if label == _ANY else label
        yield Rule(target, specs, CacheRef(found, version), where, again)


def _is_sound(rule: Rule, registry: Registry, problems: list[Problem]) -> bool:
    """Whether a rule's target, cache and columns exist; adds to ``problems`` what does not."""
    before = len(problems)
    if rule.ref.alias not in settings.CACHES:
        problems.append(
            Problem(
                "E010",
                f"{rule.where}: {rule.ref.alias!r} is not an alias of CACHES.",
                f"CACHES has {', '.join(map(repr, settings.CACHES))}."
                f"{did_you_mean(rule.ref.alias, settings.CACHES)}",
            )
        )
    try:
        target = registry.payload_of(rule.target)
    except UnknownLabelError as error:
        problems.append(Problem("E006", f"{rule.where}: {error}", "Correct the label."))
        return False
    problems += [
        Problem(
            "E009",
            f"{rule.where}: {spec.key!r} is a dotted path, and {spec.doubt}.",
            f'Repair the module; for a key of that name write {{"key": {spec.key!r}}}.',
        )
        for spec in rule.specs
        if isinstance(spec, Fixed) and spec.is_broken
    ]
    fields = registry.pk_fields(target)
    problems += [
        Problem(
            "E008",
            f"{rule.where}: the template {spec.text!r} uses a column that the primary key of"
            f" {target} does not have.",
            f"Columns are counted from 0, and it has {len(fields)}.",
        )
        for spec in rule.specs
        if fields is not None and isinstance(spec, Template) and spec.columns() > len(fields)
    ]
    return len(problems) == before
