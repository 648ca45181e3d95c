"""The checker of `python -m benchmarks consistency`, with histories made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.consistency.history import GONE, Checker, History, stored_late
from benchmarks.consistency.records import (
    ABSENT,
    UNKNOWN,
    Log,
    Read,
    Reads,
    Seen,
    Value,
    Write,
    writes,
)

LEASE = 2.0


def value(*versions: int, table: str = "product") -> Value:
    """Rows 1, 2 … with these versions."""
    return tuple(Seen(table, row, version) for row, version in enumerate(versions, 1))


def wrote(begun: float, ended: float, *rows: tuple[int, int]) -> Write:
    return Write("raw", begun, ended, tuple(Seen("product", row, version) for row, version in rows))


def read(
    at: float, what: Value, *, kind: str = "nudged row", until: float | None = None,
    reader: str = "r", private: bool = False,
) -> Read:  # fmt: skip
    ended = at + 0.001 if until is None else until
    return Read(kind, reader, "key", at, ended, True, what, private=private)


def check(history: History, *reads: Read) -> Checker:
    checker = Checker(history, LEASE)
    checker.check(reads)
    return checker


@pytest.fixture
def history() -> History:
    """Row 1: version 1 from the start, 2 committed between 10 and 11, 3 between 20 and 21."""
    return History([wrote(-1, -1, (1, 1)), wrote(10, 11, (1, 2)), wrote(20, 21, (1, 3))])


def test_a_version_that_is_being_replaced_counts_as_either(history: History) -> None:
    assert not check(history, read(10.5, value(1)), read(10.6, value(2))).violations
    assert not check(history, read(10.5, value(2)), read(10.99, value(2))).violations


def test_staleness_counts_from_when_the_next_commit_had_returned(history: History) -> None:
    checker = check(history, read(11.5, value(1)))
    assert not checker.violations
    assert list(checker.tallies["nudged row"].ages) == [0.5]


def test_nudged_is_a_violation_beyond_the_bound_and_only_there(history: History) -> None:
    assert not check(history, read(13.0, value(1))).violations
    checker = check(history, read(13.01, value(1)))
    assert checker.violations == {"beyond the lease": 1}
    assert checker.examples[0]["age"] == pytest.approx(2.01)


def test_a_slow_reader_is_judged_by_when_it_began(history: History) -> None:
    assert not check(history, read(12.9, value(1), until=30)).violations


def test_a_plain_key_is_measured_and_not_judged_by_age(history: History) -> None:
    checker = check(history, read(19, value(1), kind="plain row"))
    assert not checker.violations
    assert checker.tallies["plain row"].report()["staleness"]["max"] == 8.0


def test_a_later_commit_that_returned_first_proves_the_one_before(history: History) -> None:
    # The writer of version 2 was told late that its COMMIT had returned.
    history = History([wrote(-1, -1, (1, 1)), wrote(10, 19, (1, 2)), wrote(12, 13, (1, 3))])
    assert check(history, read(15.5, value(1))).violations == {"beyond the lease": 1}


@pytest.mark.parametrize("kind", ["plain row", "nudged row"])
class TestWhatNobodyCanHaveRead:
    def test_a_version_nobody_committed(self, history: History, kind: str) -> None:
        assert check(history, read(30, value(99), kind=kind)).violations == {"never committed": 1}

    def test_a_version_whose_commit_was_not_even_sent(self, history: History, kind: str) -> None:
        found = check(history, read(15, value(3), kind=kind)).violations
        assert found == {"not yet committed": 1}

    def test_rows_of_two_moments(self, kind: str) -> None:
        history = History([
            wrote(-1, -1, (1, 1), (2, 2)), wrote(10, 11, (1, 3)), wrote(20, 21, (2, 4)),
        ])  # fmt: skip
        assert not check(history, read(21, value(3, 2), kind=kind)).violations
        found = check(history, read(21, value(1, 4), kind=kind)).violations
        assert found["of two moments"] == 1

    def test_a_number_of_rows_that_never_was(self, kind: str) -> None:
        history = History([Write("sales", 1, 2, (Seen("sale", 0, 7, 40),))])
        assert not check(history, read(3, (Seen("sale", 0, 7, 40),), kind=kind)).violations
        found = check(history, read(3, (Seen("sale", 0, 7, 41),), kind=kind)).violations
        assert found == {"never committed": 1}


class TestAnUnknownOutcome:
    @pytest.fixture
    def history(self) -> History:
        return History([wrote(-1, -1, (1, 1)), wrote(10, UNKNOWN, (1, 2))])

    def test_replaces_nothing_as_long_as_nobody_saw_it(self, history: History) -> None:
        assert not check(history, read(100, value(1))).violations

    def test_counts_from_when_somebody_saw_it(self, history: History) -> None:
        found = check(
            history, read(12, value(2), until=12.5, reader="a"), read(14, value(1), reader="b"),
            read(15, value(1), reader="b"),
        )  # fmt: skip
        assert found.violations == {"beyond the lease": 1}
        assert found.examples[0]["begun"] == 15

    def test_counts_from_the_next_commit_that_is_known(self, history: History) -> None:
        history.add(wrote(20, 21, (1, 3)))
        assert check(history, read(24, value(1))).violations == {"beyond the lease": 1}

    def test_may_be_drawn_again_after_a_crash(self, history: History) -> None:
        history.add(wrote(20, 21, (1, 2)))
        assert not check(history, read(22.5, value(1)), read(22.6, value(2))).violations
        assert check(history, read(24, value(1))).violations == {"beyond the lease": 1}


def test_a_reader_that_goes_back_beyond_the_lease_is_a_violation(history: History) -> None:
    history.add(wrote(40, UNKNOWN, (1, 4)))
    checker = check(history, read(41, value(4)), read(42, value(3)), read(44, value(3)))
    assert checker.tallies["nudged row"].regressions == 2
    assert checker.violations == {"beyond the lease": 1}
    assert checker.examples[0]["goes_back"]


def test_what_a_transaction_shows_itself_is_not_judged(history: History) -> None:
    checker = check(history, read(30, value(1), private=True), read(30, value(-1), private=True))
    assert not checker.violations
    assert checker.tallies["nudged row"].private == 2


class TestARowThatLeaves:
    @pytest.fixture
    def history(self) -> History:
        """Away from between 10 and 11 until between 20 and 21."""
        gone = Write(GONE, 10, 11, (Seen("product", 1, 2),))
        return History([wrote(-1, -1, (1, 1)), gone, wrote(20, 21, (1, 3))])

    def test_is_over_when_it_has_left(self, history: History) -> None:
        assert not check(history, read(12, value(1))).violations
        assert check(history, read(14, value(1))).violations == {"beyond the lease": 1}

    def test_may_be_missed_until_it_has_come_back(self, history: History) -> None:
        assert not check(history, read(10.5, value(ABSENT)), read(22, value(ABSENT))).violations
        found = check(history, read(24, value(ABSENT))).violations
        assert found == {"beyond the lease": 1}

    def test_may_not_be_missed_before(self, history: History) -> None:
        assert check(history, read(9, value(ABSENT))).violations == {"never committed": 1}


def test_a_value_inside_another_may_be_of_another_moment() -> None:
    history = History([
        wrote(-1, -1, (1, 1), (2, 2)), wrote(10, 11, (1, 3)), wrote(12, 13, (2, 4)),
    ])  # fmt: skip
    found = check(history, read(12.5, value(1, 4), kind="nested"))
    assert not found.violations
    assert check(history, read(12.5, value(1, 4))).violations == {"of two moments": 1}


def test_a_table_is_as_stale_as_its_stalest_row() -> None:
    history = History([
        wrote(-1, -1, (1, 1), (2, 2)), wrote(10, 11, (1, 3)), wrote(10.5, 12, (2, 4)),
    ])  # fmt: skip
    checker = check(history, read(12.5, value(1, 2)))
    assert list(checker.tallies["nudged row"].ages) == [1.5]


def test_the_end_allows_nothing_old(history: History) -> None:
    checker = Checker(history, LEASE)
    assert checker.at_the_end("key", "plain", value(3), value(3), 21.1)
    assert not checker.at_the_end("key", "plain", value(2), value(3), 21.1)
    assert checker.violations == {"stale at the end": 1}


def test_only_plain_values_stored_after_the_second_delete_are_excused() -> None:
    in_time, late = read(1, value(1), kind="plain row"), read(2, value(2), kind="plain row")
    reads = [in_time._replace(lag=1.9), late._replace(lag=2.1), read(3, value(3))._replace(lag=9)]
    assert stored_late(reads, 2.0) == {"key": {value(2)}}


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    write, seen = wrote(1.25, UNKNOWN, (1, 2)), read(3.5, (Seen("sale", 0, 7, 40),))
    for name, record in (("w", write), ("r", seen)):
        log = Log(tmp_path / name)
        log.add(record)
        log.close()
    assert list(writes([tmp_path / "w"])) == [write]
    reads = Reads((tmp_path / "r",))
    assert list(reads) == list(reads) == [seen]
