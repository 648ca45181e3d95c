"""primary_keys.py: what is read of a key holds from where it was read on."""

from __future__ import annotations

from typing import Any

import pytest

from django_pgnudge.decoding import DECODERS, KeyColumn
from django_pgnudge.feed import primary_keys
from django_pgnudge.feed.primary_keys import PRIMARY_KEYS, KeyKeeper
from tests.decoding.columns import column
from tests.decoding.recording import make


class Server:
    """Answers for a `SideConnection`; counts how often the keys are read."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyColumn] = {}
        self.end = 0
        self.read = 0

    async def rows(self, sql: str, **options: Any) -> Any:
        if sql != PRIMARY_KEYS:
            return [(str(sorted(self.keys.items())),)]
        self.read += 1
        return [
            ("public", table, each.name, each.type, str(each.typmod),
             str(each.deterministic).lower(), each.printed, str(each.own_type),
             str(each.own_typmod))
            for table, each in self.keys.items()
        ]  # fmt: skip

    async def log_end(self) -> int:
        return self.end


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(primary_keys, "_SHARE", float("inf"))
    return Server()


async def test_the_server_is_not_asked_again_at_once_if_it_takes_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary_keys, "_SHARE", 1e-9)
    decoder, _ = make("test_decoding", keys={})
    keeper = KeyKeeper(server.rows, server.log_end)
    for lsn in range(100, 105):
        decoder.lsn = lsn
        await keeper.refresh(decoder, 1000)
        await keeper.refresh(decoder, 1000)
        server.keys[f"t{lsn}"] = column("id", "int4")
    assert server.read == 1


async def test_a_key_holds_from_the_end_of_the_log_at_which_it_was_read(server: Server) -> None:
    decoder, _ = make("pgoutput", keys={})
    keeper = KeyKeeper(server.rows, server.log_end)
    server.keys["t"], server.end = column("id", "int4"), 500
    decoder.doubt("public.t")
    assert not decoder.primary_keys
    for position in (400, 450, 499):
        await keeper.refresh(decoder, position)
        assert not decoder.primary_keys
    await keeper.refresh(decoder, 500)
    assert decoder.primary_keys == {"public.t": [column("id", "int4")]}
    assert server.read == 1


async def test_a_changed_key_is_forgotten_and_the_others_stay(server: Server) -> None:
    same, before, after = column("id", "int4"), column("a", "int4"), column("b", "int4")
    decoder, _ = make("test_decoding", keys={"public.s": [same], "public.t": [before]})
    keeper = KeyKeeper(server.rows, server.log_end)
    server.keys, server.end = {"s": same, "t": after}, 500
    decoder.lsn = 100
    await keeper.refresh(decoder, 100)
    assert decoder.primary_keys == {"public.s": [same]}
    await keeper.refresh(decoder, 600)
    assert decoder.primary_keys == {"public.s": [same], "public.t": [after]}


async def test_what_was_read_before_others_set_the_keys_does_not_come_over_theirs(
    server: Server,
) -> None:
    before, after = column("a", "int4"), column("b", "int4")
    decoder, _ = make("pgoutput", keys={})
    keeper = KeyKeeper(server.rows, server.log_end)
    server.keys, server.end = {"t": before}, 500
    decoder.doubt("public.t")
    await keeper.refresh(decoder, 400)
    keeper.supersede()
    decoder.set_primary_keys({"public.t": [after]})
    await keeper.refresh(decoder, 500)
    assert decoder.primary_keys == {"public.t": [after]}


async def test_what_others_supersede_while_it_is_read_is_thrown_away(server: Server) -> None:
    before, after = column("a", "int4"), column("b", "int4")
    decoder, _ = make("pgoutput", keys={})
    server.keys, server.end = {"t": before}, 500
    read = server.rows

    async def superseded(sql: str, **options: Any) -> Any:
        rows = await read(sql, **options)
        keeper.supersede()
        decoder.set_primary_keys({"public.t": [after]})
        return rows

    keeper = KeyKeeper(superseded, server.log_end)
    decoder.doubt("public.t")
    await keeper.refresh(decoder, 400)
    await keeper.refresh(decoder, 500)
    assert decoder.primary_keys == {"public.t": [after]}


async def test_nothing_is_asked_while_nothing_comes_or_where_the_stream_would_show_it(
    server: Server,
) -> None:
    for plugin in DECODERS:
        decoder, _ = make(plugin)
        server.keys = {
            payload.removeprefix("public."): columns[0]
            for payload, columns in decoder.primary_keys.items()
            if len(columns) == 1
        }
        keeper = KeyKeeper(server.rows, server.log_end)
        server.read = 0
        await keeper.refresh(decoder, 0)
        assert server.read == 0
        decoder.lsn = 100
        await keeper.refresh(decoder, 100)
        assert server.read == (0 if plugin == "pgoutput" else 1)
        await keeper.refresh(decoder, 100)
        decoder.lsn = 200
        await keeper.refresh(decoder, 200)
        assert server.read == (0 if plugin == "pgoutput" else 1), "the catalogs are what they were"
