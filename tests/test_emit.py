"""emitting.py, and the message as the write-ahead log has it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.test import override_settings

import django_pgnudge
from django_pgnudge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fix_servers import Database


class RollbackError(Exception):
    """Undoes a block."""


@contextlib.contextmanager
def messages(database: Database) -> Iterator[Callable[[], list[str]]]:
    """What a slot says about messages that were sent since."""
    with database.connect() as slot:
        slot.execute("SELECT pg_create_logical_replication_slot('m', 'test_decoding', true)")
        changes = "SELECT data FROM pg_logical_slot_get_changes('m', NULL, NULL)"
        yield lambda: [row[0] for row in slot.execute(changes) if row[0].startswith("message:")]


def test_a_nudge_is_sent_exactly_if_the_transaction_commits(django_postgres: Database) -> None:
    with messages(django_postgres) as read:
        with transaction.atomic():
            django_pgnudge.emit("größe: 'x', %s")
            with contextlib.suppress(RollbackError), transaction.atomic():
                django_pgnudge.emit("savepoint undone")
                raise RollbackError
        with contextlib.suppress(RollbackError), transaction.atomic():
            django_pgnudge.emit("undone")
            raise RollbackError
        django_pgnudge.emit("at once", using="default")
        django_pgnudge.emit("elsewhere", using="other")
        found = read()
    assert len(found) == 2
    assert "transactional: 1 prefix: pgnudge" in found[0]
    assert found[0].endswith("content:größe: 'x', %s")
    assert found[1].endswith("content:at once")


async def test_async_code_can_emit(django_postgres: Database) -> None:
    reader = messages(django_postgres)
    read = await sync_to_async(reader.__enter__)()
    try:
        await django_pgnudge.aemit("from async")
        assert (await sync_to_async(read)())[0].endswith("content:from async")
    finally:
        await sync_to_async(reader.__exit__)(None, None, None)


def test_the_database_is_the_one_of_the_setting(django_postgres: Database) -> None:
    with messages(django_postgres) as read:
        with override_settings(PGNUDGE={"DATABASE": "other"}):
            django_pgnudge.emit("other")
        assert read() == []
        django_pgnudge.emit("default")
        assert len(read()) == 1


@pytest.mark.parametrize("payload", ["", "a\0b", None, 7])
def test_a_payload_that_cannot_be_carried_is_refused(payload: Any) -> None:
    with pytest.raises(ConfigError, match="non-empty string without NUL"):
        django_pgnudge.emit(payload)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("public.shop_product", "it has a dot, which only table names have"),
        ("shop.Product", "it has a dot"),
        ("x" * 201, "it has 201 characters, and at most 200 are allowed"),
        ("*", "the name is reserved"),
        ("pgnudge:settle:now", "the name is reserved"),
    ],
)
def test_a_payload_that_the_feed_would_not_take_is_refused_with_what_to_do(
    payload: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)) as caught:
        django_pgnudge.emit(payload)
    assert "Nudge a name of your own, like 'prices'" in str(caught.value)


def test_the_longest_payload_is_sent(django_postgres: Database) -> None:
    with messages(django_postgres) as read:
        django_pgnudge.emit("ß" * 200)
        assert len(read()) == 1


def test_a_database_without_a_write_ahead_log_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    with pytest.raises(ConfigError, match="the database 'default' is sqlite"):
        django_pgnudge.emit("x")
