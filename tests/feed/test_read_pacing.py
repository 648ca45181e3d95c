from __future__ import annotations

from itertools import pairwise

from django_pgnudge.feed.read_pacing import (
    BURST,
    BURST_BYTES,
    ENOUGH,
    LONGEST,
    OVER,
    SHORTEST,
    WINDOW,
    ReadPacer,
)

ROW = 55


def burst() -> tuple[ReadPacer, float]:
    """A moderator that has just seen so many reads that it asked for a pause, and when."""
    pacer = ReadPacer()
    pauses = [pacer.pause(ROW, number * WINDOW / BURST / 2) for number in range(BURST)]
    assert pauses == [0.0] * (BURST - 1) + [SHORTEST]
    return pacer, (BURST - 1) * WINDOW / BURST / 2


def test_a_quiet_server_is_read_at_once() -> None:
    pacer = ReadPacer()
    # A commit every 2 ms, in four reads each.
    assert not any(
        pacer.pause(ROW, commit * 0.002 + read * 0.00001)
        for commit in range(1000)
        for read in range(4)
    )


def test_few_reads_of_many_bytes_are_a_burst() -> None:
    pacer = ReadPacer()
    size = BURST_BYTES // 4
    assert [pacer.pause(size, number * WINDOW / 8) for number in range(4)] == [
        0.0, 0.0, 0.0, SHORTEST,
    ]  # fmt: skip


def test_one_large_message_is_no_burst() -> None:
    pacer = ReadPacer()
    assert not pacer.pause(ENOUGH, 1.0)
    assert not pacer.pause(ROW, 2.0)


def test_large_reads_are_never_held_up() -> None:
    pacer, now = burst()
    assert not any(pacer.pause(ENOUGH, now + n * 0.0001) for n in range(100))


def test_pauses_grow_as_long_as_they_gather_something_and_not_enough() -> None:
    pacer, now = burst()
    pauses = [SHORTEST]
    for _ in range(10):
        now += pauses[-1]
        pauses.append(pacer.pause(int(OVER * pauses[-1]) + 1, now))
    assert all(after == min(2 * before, LONGEST) for before, after in pairwise(pauses))
    assert pauses[-1] == LONGEST
    assert not pacer.pause(ENOUGH, now + LONGEST)


def test_no_pause_is_longer_than_the_burst_has_lasted() -> None:
    pacer, now = burst()
    began = now - WINDOW
    while (pause := pacer.pause(ENOUGH - 1, now)) < LONGEST:
        assert pause <= now - began
        now += pause


def test_a_burst_ends_with_a_pause_that_gathered_little() -> None:
    for before in range(4):
        pacer, now = burst()
        pause = SHORTEST
        for _ in range(before):
            now += pause
            pause = pacer.pause(ENOUGH - 1, now)
        now += pause
        assert not pacer.pause(int(OVER * pause) - 1, now)
        # And another one is only what would be one at any time.
        assert not any(pacer.pause(ROW, now + 0.001) for _ in range(BURST - 2))


def test_a_small_read_behind_a_large_one_does_not_end_a_burst() -> None:
    pacer, now = burst()
    assert pacer.pause(ENOUGH - 1, now + 0.001) == 2 * SHORTEST
    assert not pacer.pause(ENOUGH, now + 0.003)
    assert pacer.pause(ROW, now + 0.0031) == 2 * SHORTEST
