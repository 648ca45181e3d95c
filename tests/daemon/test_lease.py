"""Tokens, epoch and lease as the daemon keeps them, on a real server and a real Redis."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection, transaction
from servers.process import free_port, wait_until

from django_pgnudge.caches import Mark, ValueStore
from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.daemon.cache_memory import CacheMemory
from django_pgnudge.daemon.cache_worker import CacheWorker
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.errors import CacheError, SettleError
from django_pgnudge.reader.keys import Dependency, Names
from django_pgnudge.reader.settled import asettled, settled
from tests.daemon.leases import (
    cache,
    cleared_daemon,
    epoch,
    gone,
    holds,
    plant,
    proven_again,
    table_name,
)
from tests.fix_nudged import lease_in, names_of
from tests.shop.models import Category


def test_a_live_daemon_holds_a_lease_and_a_stopped_one_lets_it_lapse(site):
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        first = holds()
        lease = wait_until(lambda: holds() != first and holds(), "a renewal")
        covered = cache().get(names_of().coverage(lease.coverage))
        assert table_name() in covered
        wait_until(lambda: running.daemon.keepers["default"].problem is None, "one in time")
    wait_until(lambda: not holds(), "the end of the lease")


def test_a_change_ends_the_tokens_of_its_table_and_its_rows_and_no_others(site):
    one = Category.objects.create(name="a")
    other = Category.objects.create(name="b")
    table = table_name()
    this, that = (names_of().row(table, (each.pk,)) for each in (one, other))
    with cleared_daemon():
        plant(
            names_of().table(table),
            names_of().bulk(table),
            this,
            that,
            names_of().table("public.other"),
        )
        Category.objects.filter(pk=one.pk).update(name="c")
        wait_until(lambda: gone(names_of().table(table), this), "the end of the tokens")
        assert not gone(names_of().bulk(table))
        assert not gone(that)
        assert not gone(names_of().table("public.other"))


def test_a_bulk_change_ends_the_token_every_row_stands_on(site):
    table = table_name()
    tokens = names_of().tokens(Dependency(table, (1,)))
    with cleared_daemon():
        plant(*tokens)
        with connection.cursor() as cursor:
            quoted = connection.ops.quote_name(Category._meta.db_table)
            cursor.execute(f"TRUNCATE {quoted} CASCADE")
        wait_until(lambda: gone(tokens[0]), "the end of the bulk token")


def test_a_change_of_an_heir_with_another_key_ends_its_parent_s_rows(site):
    table = table_name()
    site.execute(f"CREATE TABLE heir (nr int PRIMARY KEY) INHERITS ({table})")
    tokens = names_of().tokens(Dependency(table, (7,)))
    with cleared_daemon():
        plant(*tokens)
        site.execute("INSERT INTO heir (id, name, nr) VALUES (7, 'a', 1)")
        wait_until(lambda: gone(tokens[0]), "the end of the bulk token")


def test_a_change_of_an_heir_with_the_same_key_ends_its_parent_s_row(site):
    table = table_name()
    site.execute(f"CREATE TABLE heir (PRIMARY KEY (id)) INHERITS ({table})")
    bulk, row = names_of().tokens(Dependency(table, (7,)))
    with cleared_daemon():
        plant(bulk, row)
        site.execute("INSERT INTO heir (id, name) VALUES (7, 'a')")
        wait_until(lambda: gone(row), "the end of the row's token")
        assert not gone(bulk)


def test_a_resync_ends_the_epoch_and_the_lease_is_proven_again(site):
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        before = epoch()
        site.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE database = current_database()"
        )
        wait_until(lambda: running.daemon.status().resyncs.total() == 2, "the resync")
        wait_until(lambda: epoch() not in (before, None), "the next epoch")
        proven_again(running)


def test_without_visibility_there_is_no_proof_and_no_lease(site, settings, caplog):
    settings.PGNUDGE = {**settings.PGNUDGE, "FEED": {"visibility": False}}
    with BackgroundDaemon():
        assert not holds()
    assert "Cannot renew the lease" in caplog.text
    assert "visibility=True" in caplog.text


def test_a_cache_that_lost_memory_is_noticed_and_its_epoch_ended(site, caplog):
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        before = epoch()
        (mark,) = cache().iter_keys(names_of().mark("*"))
        # As a restart from an older memory does: what was written behind the deletes is not there.
        cache().set(mark, 1, None)
        wait_until(lambda: epoch() not in (before, None), "the next epoch")
        proven_again(running)
    assert "lost memory" in caplog.text


def test_a_restarted_redis_with_an_old_memory_is_not_trusted(site, settings, redis_factory):
    redis = redis_factory(settings={"save": ""})
    settings.CACHES = {
        **settings.CACHES,
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url},
    }
    table = table_name()
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease")
        before = epoch()
        plant(names_of().table(table))
        redis.save()
        Category.objects.create(name="a")
        wait_until(lambda: gone(names_of().table(table)), "the end of the token")
        # Not an orderly restart, which would save what it has now.
        redis.kill()
        redis.start()

        def answers() -> bool:
            try:
                return epoch() not in (before, None)
            except Exception:
                return False

        wait_until(answers, "the next epoch, since the token is back")
        proven_again(running)


def test_two_daemons_share_one_lease_and_the_second_takes_over(site):
    with ExitStack() as stack, ExitStack() as until_it_stops:
        until_it_stops.enter_context(BackgroundDaemon())
        wait_until(holds, "the lease")
        # It came later, so it does not hold the lease.
        second = stack.enter_context(BackgroundDaemon())
        table = table_name()
        plant(names_of().table(table))
        Category.objects.create(name="a")
        wait_until(lambda: gone(names_of().table(table)), "the end of the token")
        until_it_stops.close()
        proven_again(second)


def test_settled_waits_until_the_caches_have_seen_what_was_committed(site):
    table = table_name()
    with cleared_daemon():
        for number in range(20):
            plant(names_of().table(table))
            Category.objects.create(name=str(number))
            assert settled(timeout=10)
            assert gone(names_of().table(table)), "nothing committed before is still to be deleted"


def test_settled_is_false_when_no_daemon_answers(site):
    assert settled(timeout=0.05) is False


def test_settled_is_false_while_the_cache_is_down(site, settings):
    settings.CACHES = {
        **settings.CACHES,
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{free_port()}",
        },
    }
    assert settled(timeout=0.05) is False


def test_settled_refuses_to_wait_for_its_own_transaction(site):
    with transaction.atomic(), pytest.raises(SettleError, match="inside a transaction"):
        settled()


def test_settled_refuses_to_wait_for_a_transaction_that_django_does_not_see(site):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        with pytest.raises(SettleError, match="inside a transaction"):
            settled()
        cursor.execute("ROLLBACK")


async def test_settled_has_an_asynchronous_form(site):
    assert await asettled(timeout=0.05) is False


def test_a_lease_is_not_renewed_while_postgres_does_not_answer(site, settings, proxy_to, caplog):
    caplog.set_level("INFO", "django_pgnudge.daemon")
    proxy = proxy_to((site.postgres.host, site.postgres.port))
    settings.PGNUDGE = {
        **settings.PGNUDGE,
        "CONNECTION": {"host": proxy.host, "port": str(proxy.port)},
    }
    with BackgroundDaemon():
        wait_until(holds, "the lease")
        proxy.stall()
        wait_until(lambda: not holds(), "the end of the lease")
        wait_until(lambda: "Cannot renew the lease" in caplog.text, "a word of it")
        proxy.resume()
        wait_until(lambda: "is renewed again" in caplog.text and holds(), "a renewal")
    assert "Cannot renew the lease in cache 'default'" in caplog.text


def test_a_rule_with_again_deletes_a_second_time(site, settings):
    settings.PGNUDGE = {
        **settings.PGNUDGE,
        "INVALIDATE": {"shop.Category": {"keys": ["categories"], "again": 0.2}},
    }
    with cleared_daemon():
        plant("categories")
        Category.objects.create(name="a")
        wait_until(lambda: gone("categories"), "the first delete")
        # A reader that queried before the commit stores what it read.
        plant("categories")
        wait_until(lambda: gone("categories"), "the second delete")


class Rolled:
    """A worker on a cache whose memory can be taken back to an earlier moment."""

    def __init__(self, settings: Any) -> None:
        settings.CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                "LOCATION": "rolled",
            }
        }
        cache().clear()
        self.worker = CacheWorker(
            "default",
            recovery=lambda alias: Invalidation(),
            fallback=lambda alias, refusals: Invalidation(),
        )
        self.memory = self.worker.memory = CacheMemory("default", Names("rolled"))
        self.kept: list[dict[str, Any]] = []

    def keep(self) -> None:
        self.kept = [dict(memory) for memory in self._memories()]

    def roll_back(self) -> None:
        for memory, kept in zip(self._memories(), self.kept, strict=True):
            memory.clear()
            memory.update(kept)

    @staticmethod
    def _memories() -> tuple[dict[str, Any], dict[str, Any]]:
        return cache()._cache, cache()._expire_info  # noqa: SLF001 - as a snapshot of a server has

    def perform(self, invalidation: Invalidation) -> None:
        self.worker._perform(invalidation)  # noqa: SLF001 - here and now, not in its thread

    def round(self, *tokens: str) -> None:
        self.perform(Invalidation(tokens=set(tokens)))


def test_a_memory_from_before_a_round_ends_the_epoch_at_the_next(settings):
    rolled = Rolled(settings)
    rolled.round("a")
    before = rolled.memory.epoch
    plant("b", rolled.memory.names.lease)
    rolled.keep()
    rolled.round("b")
    assert gone("b")
    rolled.roll_back()
    assert not gone("b")
    assert rolled.memory.epoch == before
    rolled.round("c")
    assert rolled.memory.epoch != before, "so nothing stored under them is served"
    assert gone(rolled.memory.names.lease)


def test_a_server_replaced_between_the_deletes_and_the_count_forgets_none(settings, monkeypatch):
    rolled = Rolled(settings)
    rolled.round("a")
    plant("b")
    rolled.keep()
    witness = ValueStore.witness
    asked: list[Mark] = []

    def replaced(values: ValueStore, mark: Mark, *ended: Any) -> Any:
        if not asked:
            rolled.roll_back()
        asked.append(mark)
        seen = witness(values, mark, *ended)
        assert gone("b"), "the mark cannot tell, so it is written in the step that deletes again"
        return seen

    monkeypatch.setattr(ValueStore, "witness", replaced)
    rolled.round("b")
    assert asked
    assert gone("b")


def test_a_cleared_version_takes_the_mark_along_and_no_loss_is_seen(settings, caplog):
    rolled = Rolled(settings)
    rolled.round("a")
    rolled.perform(Invalidation(everything=True))
    rolled.round("b")
    assert "lost memory" not in caplog.text


def test_a_cache_that_forgets_at_once_is_an_error(settings, monkeypatch):
    rolled = Rolled(settings)
    monkeypatch.setattr(CacheMemory, "look", lambda memory, tokens: None)
    with pytest.raises(CacheError, match="forgets"):
        rolled.round("a")


def test_two_databases_behind_one_redis_have_nothing_in_common(site, settings, other_database):
    """Both sites call theirs "default", and their tables bear the same names."""
    mine, theirs = names_of("default"), names_of("other")
    table = table_name()
    assert mine.lease != theirs.lease
    with cleared_daemon():
        plant(mine.table(table), theirs.table(table))
        Category.objects.create(name="a")
        wait_until(lambda: gone(mine.table(table)), "the end of the token")
        assert settled(timeout=10)
        assert not gone(theirs.table(table))
        assert lease_in("default", theirs) is None
