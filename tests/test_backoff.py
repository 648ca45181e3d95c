from __future__ import annotations

from django_pgnudge.backoff import Backoff


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def test_delays_double_up_to_the_maximum():
    backoff = Backoff(0.1, 1.0, uniform=longest)
    assert [backoff.next_delay() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_reset_starts_over():
    backoff = Backoff(0.1, 1.0, uniform=longest)
    backoff.next_delay()
    backoff.next_delay()
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next_delay() == 0.1


def test_only_a_connection_that_lasted_starts_over():
    backoff = Backoff(0.1, 1.0, uniform=longest)
    backoff.next_delay()
    backoff.lasted(0.9)
    assert backoff.next_delay() == 0.2
    backoff.lasted(1.0)
    assert backoff.next_delay() == 0.1


def test_no_jitter_makes_a_tight_loop():
    backoff = Backoff(0.1, 5.0, uniform=shortest)
    assert all(backoff.next_delay() == 0.05 for _ in range(10))


def test_thousands_of_attempts_do_not_overflow():
    backoff = Backoff(0.1, 5.0, uniform=longest)
    backoff.attempts = 5000
    assert backoff.next_delay() == 5.0


def test_delays_are_jittered():
    backoff = Backoff(0.1, 5.0)
    backoff.attempts = 6
    delays = set()
    for _ in range(20):
        backoff.attempts = 6
        delays.add(backoff.next_delay())
    assert len(delays) > 1
    assert all(0.05 <= delay <= 5.0 for delay in delays)


def test_a_share_of_the_delay_may_be_certain():
    backoff = Backoff(0.1, 1.0, least=0.5, uniform=shortest)
    assert [backoff.next_delay() for _ in range(5)] == [0.05, 0.1, 0.2, 0.4, 0.5]


def test_without_jitter_delays_are_what_they_have_grown_to():
    backoff = Backoff(0.02, 0.2, factor=1.5, least=1.0, uniform=shortest)
    delays = [backoff.next_delay() for _ in range(7)]
    assert delays[:2] == [0.02, 0.02 * 1.5]
    assert delays[-1] == 0.2
