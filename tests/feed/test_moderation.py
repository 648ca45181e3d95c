from __future__ import annotations

from django_pgnudge.feed.moderation import BURST, ENOUGH, OVER, WINDOW, Moderator

ROW = 55


def burst() -> tuple[Moderator, float]:
    """A moderator that has just seen so many reads that it asked for a pause, and when."""
    moderator = Moderator()
    asked = [moderator.wants_pause(ROW, number * WINDOW / BURST / 2) for number in range(BURST)]
    assert asked == [False] * (BURST - 1) + [True]
    return moderator, WINDOW / 2


def test_a_quiet_server_is_read_at_once() -> None:
    moderator = Moderator()
    # A commit every 2 ms, in four reads each.
    assert not any(
        moderator.wants_pause(ROW, commit * 0.002 + read * 0.00001)
        for commit in range(1000)
        for read in range(4)
    )


def test_large_reads_are_never_held_up() -> None:
    moderator, now = burst()
    assert not any(moderator.wants_pause(ENOUGH, now + n * 0.0001) for n in range(100))


def test_a_burst_goes_on_as_long_as_pauses_gather_something() -> None:
    moderator, now = burst()
    assert all(moderator.wants_pause(OVER, now + n * 0.001) for n in range(100))


def test_a_burst_ends_with_a_pause_that_gathered_little() -> None:
    moderator, now = burst()
    assert not moderator.wants_pause(OVER - 1, now + 0.001)
    # And another one is only what would be one at any time.
    assert not any(moderator.wants_pause(ROW, now + 0.002) for _ in range(BURST - 2))


def test_a_small_read_behind_a_large_one_does_not_end_a_burst() -> None:
    moderator, now = burst()
    assert moderator.wants_pause(OVER, now + 0.001)
    assert not moderator.wants_pause(ENOUGH, now + 0.002)
    assert moderator.wants_pause(ROW, now + 0.0021)
