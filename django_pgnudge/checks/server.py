"""Checks of the database: the facts are read once, then one function a message uses them.

If this role may not read a fact, there is no message about it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from django.db import OperationalError, connections
from django.urls import get_resolver

from django_pgnudge.checks.absent import apps_to_migrate, is_to_come, views
from django_pgnudge.checks.facts import Facts, read_facts
from django_pgnudge.checks.ids import message
from django_pgnudge.conf import conf
from django_pgnudge.conf.values import NEAR, closest
from django_pgnudge.migrating import undeclared
from django_pgnudge.names import Own
from django_pgnudge.operations import PublicationOperation
from django_pgnudge.reader.declared import declared_tables
from django_pgnudge.registry import Registry, split_db_table
from django_pgnudge.registry.labels import is_starred
from django_pgnudge.rules import Rule, RuleSet, read_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.core.checks import CheckMessage

SHOWN: Final = 5
"""The most names in one message."""


def run(databases: Sequence[str]) -> list[CheckMessage]:
    """All messages for the configured database, if it is one of ``databases``."""
    usable = all(map(conf.is_usable, ("DATABASE", "PLUGIN", "PUBLICATION", "CONNECTION")))
    if not usable or conf.DATABASE not in databases:
        return []
    connection = connections[conf.DATABASE]
    if connection.vendor != "postgresql":
        return []
    registry = Registry(conf.DATABASE)
    try:
        registry.refresh(connection)
    except OperationalError as error:
        return [
            message(
                "W030",
                f"The database {conf.DATABASE!r} cannot be queried: {error}",
                "Make sure that the server runs, and correct DATABASES.",
            )
        ]
    rules = RuleSet(read_rules(registry)[0] if conf.is_usable("INVALIDATE") else (), registry)
    facts = read_facts(connection, registry, rules)
    return [found for check in _CHECKS for found in check(facts)]


def check_wal_level(facts: Facts) -> Iterator[CheckMessage]:
    if facts.wal_level != "logical":
        yield message(
            "W020",
            f"wal_level of the database {facts.alias!r} is {facts.wal_level!r}, not 'logical'.",
            "ALTER SYSTEM SET wal_level = logical; and restart PostgreSQL (managed: a parameter"
            " like rds.logical_replication or cloudsql.logical_decoding).",
        )


def check_replication(facts: Facts) -> Iterator[CheckMessage]:
    if facts.may_replicate is None:
        yield message(
            "W021",
            f"The database {facts.alias!r} has no role {facts.role!r}.",
            'Create it with REPLICATION, or correct PGNUDGE["CONNECTION"]["user"].',
        )
    elif not facts.may_replicate:
        yield message(
            "W021",
            f"The role {facts.role!r} of the database {facts.alias!r} may not replicate.",
            f"ALTER ROLE {facts.role} REPLICATION; (Amazon RDS: GRANT rds_replication TO"
            f' {facts.role};), or name another role in PGNUDGE["CONNECTION"].',
        )


def check_plugin_allowed(facts: Facts) -> Iterator[CheckMessage]:
    if facts.plugin != "auto" and facts.allowed_plugins is not None and (
        facts.plugin not in facts.allowed_plugins
    ):  # fmt: skip
        yield message(
            "W022",
            f"The database {facts.alias!r} does not allow the output plugin {facts.plugin!r}:"
            f" output_plugin_libraries is {', '.join(facts.allowed_plugins)!r}.",
            f'Add {facts.plugin} to output_plugin_libraries, or set PGNUDGE["PLUGIN"].',
        )


def check_plugin_installed(facts: Facts) -> Iterator[CheckMessage]:
    if facts.plugin_missing:
        yield message(
            "W023",
            f"The server of the database {facts.alias!r} has no output plugin {facts.plugin!r}:"
            f" {facts.plugin_missing}",
            'Install it (Debian: postgresql-NN-wal2json), or set PGNUDGE["PLUGIN"] = "auto".',
        )


def check_publication(facts: Facts) -> Iterator[CheckMessage]:
    if facts.publication_name is not None and facts.publication is None:
        yield message(
            "W024",
            f"The database {facts.alias!r} has no publication {facts.publication_name!r}.",
            "Make it in a migration: django_pgnudge.operations.CreatePublication"
            f"({facts.publication_name!r}, models=[…]).",
        )


def check_published(facts: Facts) -> Iterator[CheckMessage]:
    lacking = [table for table in sorted(facts.rules.payloads()) if facts.is_unpublished(table)]
    for payload in lacking:
        yield message(
            "W025",
            f"The publication {facts.publication_name!r} of the database {facts.alias!r} does"
            f" not contain {payload}: its changes never arrive.",
            _add_hint(facts, payload),
        )


def check_declared(facts: Facts) -> Iterator[CheckMessage]:
    if facts.publication is None:
        return
    # The URLconf imports the views. Django's own checks report its errors.
    with contextlib.suppress(Exception):
        get_resolver().url_patterns  # noqa: B018
    lacking: dict[str, list[str]] = {}
    for what, payload in declared_tables(facts.registry):
        if facts.is_unpublished(payload) and what not in lacking.setdefault(payload, []):
            lacking[payload].append(what)
    for payload, names in sorted(lacking.items()):
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield message(
            "W041",
            f"The publication {facts.publication_name!r} of the database {facts.alias!r} does"
            f" not contain {payload}, and these depend on it, so they are computed each time:"
            f" {', '.join(names[:SHOWN])}{more}.",
            _add_hint(facts, payload),
        )


def check_identity(facts: Facts) -> Iterator[CheckMessage]:
    if facts.publication is None:
        return
    for payload, why in sorted(facts.publication.without_identity.items()):
        yield message(
            "W026",
            f"The publication {facts.publication_name!r} of the database {facts.alias!r} contains"
            f" {payload}, which {why}: UPDATE and DELETE on it fail.",
            "Give the table a primary key or a REPLICA IDENTITY, or do not publish it.",
        )
    for payload, why in sorted(facts.publication.left_out.items()):
        yield message(
            "W040",
            f"The publication {facts.publication_name!r} of the database {facts.alias!r} contains"
            f" {payload}, which {why}: every UPDATE and DELETE on it fails.",
            _add_hint(facts, payload),
        )


def check_migrations(facts: Facts) -> Iterator[CheckMessage]:
    for migration, label, todo in undeclared(PublicationOperation):
        yield message(
            "W042",
            f"The migration {migration} publishes {label!r}, which it does not depend on: on a new"
            " database it may run before the table is created, and fail.",
            todo or "Depend on the migration that creates it.",
        )


def _add_hint(facts: Facts, payload: str) -> str:
    models = facts.registry.models_of(payload)
    label = models[0]._meta.label if models else "…"
    return (
        f"In a migration: AddToPublication({facts.publication_name!r}, [{label!r}]) of"
        " django_pgnudge.operations."
    )


def check_operations(facts: Facts) -> Iterator[CheckMessage]:
    publication = facts.publication
    if publication is None:
        return
    lacking = [name for name, there in publication.operations.items() if not there]
    if lacking or publication.filtered:
        what = f"every {' and '.join(lacking)}" if lacking else (
            f"rows of {', '.join(sorted(publication.filtered))} (it has a WHERE)")  # fmt: skip
        yield message(
            "W029",
            f"The publication {facts.publication_name!r} of the database {facts.alias!r} leaves out"
            f" {what}. Those changes never arrive.",
            "Publish insert, update, delete and truncate, and all rows.",
        )


def check_primary_keys(facts: Facts) -> Iterator[CheckMessage]:
    for payload in sorted(facts.rules.wants_keys()):
        registry = facts.registry
        if not registry.exists(payload) or registry.root_of(payload) != payload:
            continue
        columns, fields = registry.pk_columns(payload), registry.pk_fields(payload)
        if columns is None:
            why = "has no primary key"
        elif fields is not None and {field.column for field in fields} != set(columns):
            why = f"has the primary key ({', '.join(columns)}), which is not its model's"
        else:
            continue
        yield message(
            "W027",
            f"A rule needs the primary keys of {payload}, which {why} in the database"
            f" {facts.alias!r}: each change deletes the keys of all rows.",
            "Give the table the primary key that the model has, or use fixed keys.",
        )


def check_tables(facts: Facts) -> Iterator[CheckMessage]:
    absent: dict[str, Rule] = {}
    for rule in facts.rules.rules:
        payload = facts.registry.payload_of(rule.target)
        if is_starred(payload) and (
            # The first tenant may be created later.
            facts.registry.tables_like(payload) or facts.registry.models_of(payload)
        ):
            continue
        if "." in payload and not facts.registry.exists(payload):
            if others := _others(facts, rule):
                yield message(
                    "W028",
                    f"{rule.where}: the database {facts.alias!r} has no table {payload}.",
                    _for_all(rule, others),
                )
            else:
                absent[payload] = rule
        elif "." not in payload and not isinstance(rule.target, Own):
            yield from _check_own(facts, rule, payload)
    if not absent:
        return
    connection = connections[facts.alias]
    found, apps = views(connection), apps_to_migrate(connection)
    for payload, rule in absent.items():
        if payload in found:
            which = "a materialised view" if found[payload] else "a view"
            yield message(
                "W028",
                f"{rule.where}: {payload} of the database {facts.alias!r} is {which}, and the"
                " write-ahead log does not show that it changed.",
                "Name the tables it reads"
                + (", or emit() a nudge when you refresh it." if found[payload] else "."),
            )
        # ``migrate`` runs the checks before it creates the table.
        elif not is_to_come(facts.registry.models_of(payload), apps):
            close = closest(payload, {table: table for table in facts.registry.tables()}, NEAR)
            yield message(
                "W028",
                f"{rule.where}: the database {facts.alias!r} has no table {payload}.",
                (f"Did you mean {close!r}? " if close else "")
                + "Migrate, or correct the name; what emit() sends has no dot.",
            )


def _check_own(facts: Facts, rule: Rule, payload: str) -> Iterator[CheckMessage]:
    tables = [
        table for table in facts.registry.tables() if facts.registry.split(table)[1] == payload
    ]
    if tables:
        yield message(
            "W028",
            f"{rule.where} means what emit({payload!r}) sends, but the database {facts.alias!r}"
            f" also has the table {tables[0]}.",
            f"For the table write {tables[0]!r}, for the own nudge own({payload!r}).",
        )


def check_tenants(facts: Facts) -> Iterator[CheckMessage]:
    for rule in facts.rules.rules:
        payload = facts.registry.payload_of(rule.target)
        others = _others(facts, rule)
        if others and facts.registry.exists(payload):
            yield message(
                "W043",
                f"{rule.where} means {payload} and no other schema's table.",
                _for_all(rule, others),
            )


def _others(facts: Facts, rule: Rule) -> list[str]:
    """The tables of a rule's model in other tenants' schemas, which the rule does not mean."""
    registry = facts.registry
    model = registry.model_of(rule.target) if isinstance(rule.target, str) else rule.target
    if model is None or not registry.has_tenants:
        return []
    schema, table = split_db_table(model._meta.db_table)
    payload = registry.payload_of(rule.target)
    if schema is not None or is_starred(payload):
        return []
    return sorted(registry.tables_like(f"*.{table}") - {payload})


def _for_all(rule: Rule, others: list[str]) -> str:
    label = rule.target if isinstance(rule.target, str) else rule.target._meta.label
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return (
        f"There are {', '.join(others[:SHOWN])}{more}. For the table of every schema write"
        f" {'*.' + label!r}, and {{schema}} in its keys."
    )


def check_messages(facts: Facts) -> Iterator[CheckMessage]:
    functions, roles = facts.messages.functions, ", ".join(sorted({facts.user, facts.role}))
    if facts.messages.public:
        yield message(
            "I031",
            f"Every role of the database {facts.alias!r} may write own nudges, and so fire the"
            " rules and invalidate the values that depend on them.",
            "Do nothing if you trust your roles. Else run as a superuser, in this database:"
            f" REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC;"
            f" GRANT EXECUTE ON FUNCTION {functions} TO {roles};",
        )
    elif facts.messages.without:
        without = ", ".join(facts.messages.without)
        yield message(
            "I032",
            f"In the database {facts.alias!r} these roles may not write own nudges: {without}."
            " emit() and settled() need it. Without it a lease is renewed late when little is"
            " written.",
            f"GRANT EXECUTE ON FUNCTION {functions} TO {without};",
        )


_CHECKS: tuple[Callable[[Facts], Iterator[CheckMessage]], ...] = (
    check_wal_level,
    check_replication,
    check_plugin_allowed,
    check_plugin_installed,
    check_publication,
    check_published,
    check_declared,
    check_identity,
    check_migrations,
    check_operations,
    check_primary_keys,
    check_tables,
    check_tenants,
    check_messages,
)
