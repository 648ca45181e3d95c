"""Answers to the feed's own queries that no PostgreSQL gives."""

from __future__ import annotations

from typing import Any

import pytest

from django_pgnudge import PgNudgeError

from ..wire import backend
from .test_hostile import answers, errors_of, says_to


async def never_makes_a_slot(peer: Any) -> None:
    await peer.login()
    while True:
        sql = await peer.query()
        if "pg_stat_activity WHERE pid" in sql:
            await peer.send(backend.result(["a"]))
        elif "CREATE_REPLICATION_SLOT" not in sql:
            await peer.send(peer.answer(sql))


ANSWERS = {
    "a primary key without its table": answers("SELECT n.nspname", backend.result(["a"], ["x"])),
    "no blockers": never_makes_a_slot,
    "a running transaction without columns": says_to("DISTINCT ON", backend.result([], [])),
    "an xid of 5,000 digits": says_to("DISTINCT ON", backend.result(["a"], ["9" * 5000])),
    "an xid that is NULL": says_to("DISTINCT ON", backend.result(["a"], [None])),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_wrong_answer_is_a_documented_error(name):
    for error in await errors_of(ANSWERS[name], connect_timeout=0.4):
        assert isinstance(error, PgNudgeError)
