"""signals: who hears what, and that a receiver's database troubles stay its own."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection, connections

from django_pgnudge import signals
from django_pgnudge.daemon.merging import by_model, merge_events
from django_pgnudge.events import Batch, Event

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

    from tests.fix_servers import Database

BATCH = Batch((Event("public.auth_user", 1.0), Event("public.auth_group", 2.0)), lsn=5)
CHANGES: Any = [(User, BATCH.events[0]), (Group, BATCH.events[1])]


def test_model_changed_reaches_only_receivers_of_that_model() -> None:
    calls: list[dict[str, Any]] = []

    def receiver(**given: Any) -> None:
        calls.append(given)

    signals.model_changed.connect(receiver, sender=Group)
    try:
        assert signals.anyone_listens()
        signals.send_changes(BATCH, CHANGES, "other")
    finally:
        signals.model_changed.disconnect(receiver, sender=Group)
    (given,) = calls
    given.pop("signal")
    assert given == {"sender": Group, "event": BATCH.events[1], "batch": BATCH, "using": "other"}
    assert not signals.anyone_listens()


def test_the_documented_arguments_are_those_that_are_sent() -> None:
    documented = inspect.cleandoc(signals.__doc__ or "")
    sent: set[str] = set()

    def receiver(**given: Any) -> None:
        sent.update(set(given) - {"signal", "sender"})

    for signal in (signals.tables_changed, signals.model_changed, signals.resynced):
        signal.connect(receiver)
    try:
        signals.send_changes(BATCH, CHANGES, "default")
        signals.send_resynced("overflow", "default")
    finally:
        for signal in (signals.tables_changed, signals.model_changed, signals.resynced):
            signal.disconnect(receiver)
    assert sent == {"tables", "models", "batch", "using", "event", "reason"}
    assert all(f"``{name}``" in documented for name in sent)


async def test_a_receivers_broken_connection_is_gone_before_the_next_batch(
    django_postgres: Database, settings: Settings
) -> None:
    settings.DEBUG = True
    seen: list[Any] = []

    def breaks(**given: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            seen.append(cursor.fetchone()[0])
        django_postgres.execute(f"SELECT pg_terminate_backend({seen[-1]}, 5000)")
        User.objects.count()

    signals.tables_changed.connect(breaks)
    connections.settings["default"]["CONN_MAX_AGE"] = None
    try:
        for _ in range(3):
            await sync_to_async(signals.send_changes)(BATCH, [], "default")
        assert len(set(seen)) == 3
        assert await sync_to_async(lambda: len(connection.queries_log))() == 0
    finally:
        signals.tables_changed.disconnect(breaks)
        connections.settings["default"]["CONN_MAX_AGE"] = 0
        await sync_to_async(lambda: connection.close())()  # noqa: PLW0108 - that thread's


def test_merged_events_add_up_and_too_many_keys_mean_any_row() -> None:
    one = Event("a.b", 2.0, 3, frozenset({(1,)}))
    two = Event("a.b", 1.0, 4, frozenset({(2,)}))
    other = Event("a.c", 9.0)
    assert merge_events([one, other, two]) == (
        Event("a.b", 1.0, 7, frozenset({(1,), (2,)})),
        other,
    )
    many = Event("a.b", 1.0, 999, frozenset((n,) for n in range(5, 1004)))
    assert merge_events([one, two, many])[0].keys is None
    assert merge_events([one, Event("a.b", 1.0)])[0].keys is None


def test_a_model_of_two_tables_hears_one_event() -> None:
    events = [Event("a.b", 2.0, 3, frozenset({(1,)})), Event("a.c", 1.0, 2, frozenset({(2,)}))]
    own = "public.auth_user"
    ((model, merged),) = by_model(events, lambda event: [(User, replace(event, payload=own))])
    assert model is User
    assert merged.count == 5
    assert merged.keys == frozenset({(1,), (2,)})


def test_a_model_of_two_tenants_hears_of_each() -> None:
    events = [Event("a.users", 2.0, 3, frozenset({(1,)})), Event("b.users", 1.0, 2, None)]
    assert by_model(events, lambda event: [(User, event)]) == [(User, each) for each in events]
