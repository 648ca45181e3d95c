"""memo: a bound on what is remembered."""

from __future__ import annotations

from django_pgnudge.memo import Memo


def test_it_forgets_all_when_one_more_comes_than_it_holds() -> None:
    memo: Memo[int, str] = Memo(3)
    for number in range(3):
        memo[number] = str(number)
    memo[1] = "again"
    assert memo == {0: "0", 1: "again", 2: "2"}
    memo[3] = "3"
    assert memo == {3: "3"}
